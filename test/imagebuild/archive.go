package imagebuild

import (
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// WriteArchive writes images by their names into one file, as docker save does. Nothing
// in it is compressed: it stays on this machine.
func WriteArchive(file, architecture string, specs map[string]Spec) error {
	images := map[name.Tag]v1.Image{}
	for text, spec := range specs {
		tag, err := name.NewTag(text)
		if err != nil {
			return fmt.Errorf("read the image's name: %w", err)
		}
		layer, err := plainLayer(spec)
		if err != nil {
			return fmt.Errorf("make %s: %w", text, err)
		}
		if images[tag], err = Stack(spec.Config, architecture, layer); err != nil {
			return fmt.Errorf("make %s: %w", text, err)
		}
	}
	return tarball.MultiWriteToFile(file, images)
}

func plainLayer(spec Spec) (v1.Layer, error) {
	layer, err := SpecLayer(spec)
	if err != nil {
		return nil, err
	}
	reader, err := layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(reader)
	if err = errors.Join(err, reader.Close()); err != nil {
		return nil, err
	}
	return static.NewLayer(content, types.OCIUncompressedLayer), nil
}
