package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The layout is upstream's, which programs that watch their configuration rely on:
//
//	..2026_11_21_15_04_05.123456789/   the files
//	..data -> ..2026_11_21_15_04_05.123456789
//	key    -> ..data/key
//
// A change makes a new folder and renames a new ..data over the old one.
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
	stampPrefix = "..2"
	stampFormat = "..2006_01_02_15_04_05."
)

// writeFiles makes dir hold files and nothing that it wrote before. own is called when
// the files are written and nobody sees them yet.
func writeFiles(dir string, files payload, now time.Time, own func() error) error {
	if err := checkPaths(files); err != nil {
		return err
	}
	current, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading what the volume holds: %w", err)
	}
	same, err := holds(dir, current, files)
	if err != nil {
		return err
	}
	before, err := topNames(dir, current)
	if err != nil {
		return err
	}
	if !same {
		if current, err = publish(dir, files, now, own); err != nil {
			return err
		}
	}
	if err := linkNames(dir, files); err != nil {
		return err
	}
	if err := unlinkNames(dir, before, files); err != nil {
		return err
	}
	return removeOldFolders(dir, current)
}

// checkPaths refuses paths that leave the volume or mix with its own names.
func checkPaths(files payload) error {
	for name := range files {
		switch {
		case name == "" || name == ".":
			return fmt.Errorf("invalid path: must not be empty: %q", name)
		case !filepath.IsLocal(name):
			return fmt.Errorf("invalid path: must be relative and not contain '..': %s", name)
		case strings.HasPrefix(name, ".."):
			return fmt.Errorf("invalid path: must not start with '..': %s", name)
		}
	}
	return nil
}

// holds says whether the folder that is published holds exactly files.
func holds(dir, current string, files payload) (bool, error) {
	if current == "" {
		return false, nil
	}
	count := 0
	same := true
	root := filepath.Join(dir, current)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return nil
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		count++
		wanted, ok := files[name]
		if !ok {
			same = false
			return fs.SkipAll
		}
		have, err := os.ReadFile(path)
		same = same && bytes.Equal(have, wanted.data)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading what the volume holds: %w", err)
	}
	return same && count == len(files), nil
}

// topNames lists what the published folder shows at the top of the volume.
func topNames(dir, current string) ([]string, error) {
	if current == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(filepath.Join(dir, current))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading what the volume holds: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

// publish writes files into a new folder and makes it the one that ..data names.
func publish(dir string, files payload, now time.Time, own func() error) (string, error) {
	folder, err := os.MkdirTemp(dir, now.UTC().Format(stampFormat))
	if err != nil {
		return "", fmt.Errorf("making the folder of files: %w", err)
	}
	if err := fill(folder, files); err != nil {
		return "", errors.Join(err, os.RemoveAll(folder))
	}
	if err := own(); err != nil {
		return "", errors.Join(err, os.RemoveAll(folder))
	}
	link := filepath.Join(dir, newDataLink)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("removing what an earlier change left: %w", err)
	}
	if err := os.Symlink(filepath.Base(folder), link); err != nil {
		return "", fmt.Errorf("publishing the files: %w", err)
	}
	if err := os.Rename(link, filepath.Join(dir, dataLink)); err != nil {
		return "", fmt.Errorf("publishing the files: %w", err)
	}
	return filepath.Base(folder), nil
}

// fill writes files into a folder that nobody sees yet. Modes are set after writing:
// the umask may cut what a new file gets.
func fill(folder string, files payload) error {
	if err := os.Chmod(folder, 0o755); err != nil {
		return fmt.Errorf("making the folder of files: %w", err)
	}
	for name, f := range files {
		path := filepath.Join(folder, name)
		if err := makeFolders(folder, filepath.Dir(name)); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.data, 0o600); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		if f.owner != nil {
			if err := os.Chown(path, int(*f.owner), -1); err != nil {
				return fmt.Errorf("writing %s: %w", name, err)
			}
		}
		if err := os.Chmod(path, fs.FileMode(f.mode)&fs.ModePerm); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}

// makeFolders makes every folder of path below root readable for all.
func makeFolders(root, path string) error {
	if path == "." {
		return nil
	}
	if err := makeFolders(root, filepath.Dir(path)); err != nil {
		return err
	}
	full := filepath.Join(root, path)
	if err := os.Mkdir(full, 0o755); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("making a folder of files: %w", err)
	}
	if err := os.Chmod(full, 0o755); err != nil {
		return fmt.Errorf("making a folder of files: %w", err)
	}
	return nil
}

// top is the first part of a path.
func top(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

// linkNames shows what ..data holds at the top of the volume.
func linkNames(dir string, files payload) error {
	for name := range files {
		first := top(name)
		err := os.Symlink(filepath.Join(dataLink, first), filepath.Join(dir, first))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("showing %s: %w", first, err)
		}
	}
	return nil
}

// unlinkNames removes names that files no longer have.
func unlinkNames(dir string, before []string, files payload) error {
	shown := map[string]bool{}
	for name := range files {
		shown[top(name)] = true
	}
	for _, name := range before {
		if shown[name] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing %s: %w", name, err)
		}
	}
	return nil
}

// removeOldFolders removes folders of files that are not published, also those that an
// earlier process did not finish.
func removeOldFolders(dir, current string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("removing old files: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() && strings.HasPrefix(entry.Name(), stampPrefix) && entry.Name() != current {
			if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
				return fmt.Errorf("removing old files: %w", err)
			}
		}
	}
	return nil
}

// makeNested makes the folders in dir on which the containers mount other volumes: the
// volume is read-only to them, so they could not be made later.
func makeNested(dir string, spec *corev1.PodSpec, volume string, files payload) error {
	for _, name := range nestedMounts(spec, volume) {
		if _, taken := files[name]; taken {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return fmt.Errorf("unable to create nested volume mountpoints: %w", err)
		}
	}
	return nil
}

// nestedMounts lists paths in the volume on which a container mounts something else,
// without those below another.
func nestedMounts(spec *corev1.PodSpec, volume string) []string {
	var nested []string
	look := func(mounts []corev1.VolumeMount) {
		for i := range mounts {
			if mounts[i].Name == volume {
				nested = append(nested, mountsBelow(mounts, filepath.Clean(mounts[i].MountPath))...)
			}
		}
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			look(list[i].VolumeMounts)
		}
	}
	for i := range spec.EphemeralContainers {
		look(spec.EphemeralContainers[i].VolumeMounts)
	}
	return nested
}

func mountsBelow(mounts []corev1.VolumeMount, parent string) []string {
	var below []string
	for i := range mounts {
		inner, ok := strings.CutPrefix(filepath.Clean(mounts[i].MountPath), parent+"/")
		if ok && filepath.IsLocal(inner) {
			below = append(below, inner)
		}
	}
	var outermost []string
	for _, path := range below {
		nested := false
		for _, other := range below {
			nested = nested || strings.HasPrefix(path, other+"/")
		}
		if !nested {
			outermost = append(outermost, path)
		}
	}
	return outermost
}
