// Package imagearchive writes a container image of one program as an OCI archive, which
// node agents import from a folder: a cluster needs no registry for what it brings
// itself.
//
// The same program gives the same bytes and the same name. It keeps no state: an archive
// appears under its name when it is complete, and a crash leaves at most a hidden file,
// which the next Write of that program removes.
package imagearchive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tagLength is how many digits of the digest make a tag.
const tagLength = 16

// annotationName is under which containerd looks for an image's full name.
const annotationName = "io.containerd.image.name"

// Spec says what the image holds.
type Spec struct {
	// Repository is the image's name without a tag.
	Repository string
	// Program is a static executable of this machine; it becomes the entrypoint.
	Program string
	// User is whom it runs as, such as 65532:65532.
	User string
}

func (s Spec) base() string { return filepath.Base(s.Program) }

// Write puts the archive into dir, as NAME-TAG.tar, and removes those of other contents
// of the program. It returns the image's full name, whose tag tells contents apart.
func Write(dir string, s Spec) (string, error) {
	layer, err := s.describeLayer()
	if err != nil {
		return "", fmt.Errorf("make an image of %s: %w", s.Program, err)
	}
	name := s.Repository + ":" + layer.Digest.Encoded()[:tagLength]
	path := filepath.Join(dir, s.base()+"-"+layer.Digest.Encoded()[:tagLength]+".tar")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := s.writeArchive(path, name, layer); err != nil {
			return "", fmt.Errorf("make an image of %s: %w", s.Program, err)
		}
	} else if err != nil {
		return "", fmt.Errorf("make an image of %s: %w", s.Program, err)
	}
	return name, Remove(dir, s.Program, path)
}

// Remove removes the archives of a program, but for those to keep.
func Remove(dir, program string, keep ...string) error {
	base := filepath.Base(program)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for archives of %s: %w", base, err)
	}
	var errs []error
	for _, entry := range entries {
		tag, ours := strings.CutPrefix(strings.TrimPrefix(entry.Name(), "."), base+"-")
		tag, _, isTar := strings.Cut(tag, ".tar")
		path := filepath.Join(dir, entry.Name())
		if !ours || !isTar || len(tag) != tagLength || len(keep) > 0 && path == keep[0] {
			continue
		}
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(errs...)
}

// describeLayer reads the program once to know the layer's digest.
func (s Spec) describeLayer() (ocispec.Descriptor, error) {
	hash, size := sha256.New(), &counter{}
	if err := s.writeLayer(io.MultiWriter(hash, size)); err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayer, Digest: digest.NewDigest(digest.SHA256, hash), Size: size.bytes,
	}, nil
}

type counter struct{ bytes int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return len(p), nil
}

// writeLayer writes the file system: the program alone.
func (s Spec) writeLayer(to io.Writer) error {
	file, err := os.Open(s.Program)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	w := tar.NewWriter(to)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: s.base(), Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	if _, err := io.Copy(w, file); err != nil {
		return err
	}
	return w.Close()
}

// writeArchive writes beside path first, so that nobody sees half an archive.
func (s Spec) writeArchive(path, name string, layer ocispec.Descriptor) error {
	hidden := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+strconv.Itoa(os.Getpid()))
	file, err := os.Create(hidden)
	if err != nil {
		return err
	}
	err = errors.Join(s.writeTo(file, name, layer), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(hidden, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(hidden))
	}
	return nil
}

func (s Spec) writeTo(to io.Writer, name string, layer ocispec.Descriptor) error {
	config, configBlob, err := blob(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config:   ocispec.ImageConfig{Entrypoint: []string{"/" + s.base()}, User: s.User, WorkingDir: "/"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
	})
	if err != nil {
		return err
	}
	manifest, manifestBlob, err := blob(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{layer},
	})
	if err != nil {
		return err
	}
	manifest.Platform = &ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"}
	manifest.Annotations = map[string]string{annotationName: name, ocispec.AnnotationRefName: name[strings.LastIndex(name, ":")+1:]}
	_, indexBlob, err := blob(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{manifest},
	})
	if err != nil {
		return err
	}
	w := tar.NewWriter(to)
	layout := []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
	for _, f := range []struct {
		name string
		data []byte
	}{
		{ocispec.ImageLayoutFile, layout}, {ocispec.ImageIndexFile, indexBlob},
		{blobPath(config), configBlob}, {blobPath(manifest), manifestBlob},
	} {
		if err := writeEntry(w, f.name, int64(len(f.data)), bytes.NewReader(f.data)); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(header(blobPath(layer), layer.Size)); err != nil {
		return err
	}
	// A program that is replaced meanwhile has another size or another digest: the
	// first fails here, the second when the archive is imported.
	if err := s.writeLayer(w); err != nil {
		return err
	}
	return w.Close()
}

func blobPath(d ocispec.Descriptor) string {
	return ocispec.ImageBlobsDir + "/" + d.Digest.Algorithm().String() + "/" + d.Digest.Encoded()
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size}
}

func writeEntry(w *tar.Writer, name string, size int64, content io.Reader) error {
	if err := w.WriteHeader(header(name, size)); err != nil {
		return err
	}
	_, err := io.Copy(w, content)
	return err
}

func blob(mediaType string, content any) (ocispec.Descriptor, []byte, error) {
	data, err := json.Marshal(content)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data, nil
}
