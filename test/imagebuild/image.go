// Package imagebuild assembles small container images from files of this machine
// and serves them from a registry on loopback, so that tests and the demo pull for
// real without any registry on the internet.
package imagebuild

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Spec says what an image holds and runs.
type Spec struct {
	// Files maps a path in the image to its content.
	Files map[string]File
	// Symlinks maps a path in the image to what it points at.
	Symlinks map[string]string
	// Dirs are folders that must exist beside those of the files.
	Dirs []string
	// Config is ENTRYPOINT, CMD, ENV and so on. The platform is this machine's.
	Config v1.Config
}

// File is a file of an image.
type File struct {
	// HostPath is copied, symbolic links followed; Content is used when it is empty.
	HostPath string
	Content  []byte
	// Mode are the permission bits; 0 means 0o755.
	Mode int64
}

// Build assembles an image of one layer. Building the same spec twice gives the
// same digest.
func Build(spec Spec, architecture string) (v1.Image, error) {
	layer, err := SpecLayer(spec)
	if err != nil {
		return nil, err
	}
	return Stack(spec.Config, architecture, layer)
}

// layerOf writes the tar of a spec: parents before children, sorted, no times.
func layerOf(spec Spec) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, dir := range dirsOf(spec) {
		header := &tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}
		if dir == "tmp" {
			header.Mode = 0o1777
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Files)) {
		if err := writeFile(w, name, spec.Files[name]); err != nil {
			return nil, fmt.Errorf("add %s: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Symlinks)) {
		header := &tar.Header{Typeflag: tar.TypeSymlink, Name: relative(name), Linkname: spec.Symlinks[name], Mode: 0o777}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

func writeFile(w *tar.Writer, name string, file File) error {
	content := file.Content
	if file.HostPath != "" {
		var err error
		if content, err = os.ReadFile(file.HostPath); err != nil {
			return err
		}
	}
	mode := file.Mode
	if mode == 0 {
		mode = 0o755
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: relative(name), Mode: mode, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// dirsOf are the folders of a spec and all their parents, sorted.
func dirsOf(spec Spec) []string {
	dirs := map[string]bool{}
	add := func(dir string) {
		for dir = relative(dir); dir != "."; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	for _, dir := range spec.Dirs {
		add(dir)
	}
	for name := range spec.Files {
		add(path.Dir(name))
	}
	for name := range spec.Symlinks {
		add(path.Dir(name))
	}
	return slices.Sorted(maps.Keys(dirs))
}

func relative(name string) string {
	return path.Clean("./" + path.Clean("/" + name)[1:])
}
