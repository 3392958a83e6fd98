package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// checkHostPath makes sure that the machine's path is what the Pod says it is; the
// messages are upstream's.
func checkHostPath(source *corev1.HostPathVolumeSource) error {
	if slices.Contains(strings.Split(source.Path, "/"), "..") {
		return fmt.Errorf("invalid HostPath `%s`: must not contain '..'", source.Path)
	}
	switch kind := ptr.Deref(source.Type, corev1.HostPathUnset); kind {
	case corev1.HostPathUnset:
		return nil
	case corev1.HostPathDirectoryOrCreate:
		if !exists(source.Path) {
			return os.MkdirAll(source.Path, 0o755)
		}
		return expect(source.Path, corev1.HostPathDirectory, "directory")
	case corev1.HostPathDirectory:
		return expect(source.Path, kind, "directory")
	case corev1.HostPathFileOrCreate:
		if !exists(source.Path) {
			return makeFile(source.Path)
		}
		return expect(source.Path, corev1.HostPathFile, "file")
	case corev1.HostPathFile:
		return expect(source.Path, kind, "file")
	case corev1.HostPathSocket:
		return expect(source.Path, kind, "socket file")
	case corev1.HostPathCharDev:
		return expect(source.Path, kind, "character device")
	case corev1.HostPathBlockDev:
		return expect(source.Path, kind, "block device")
	default:
		return fmt.Errorf("%s is an invalid volume type", kind)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func expect(path string, want corev1.HostPathType, word string) error {
	have, err := typeOf(path)
	switch {
	case err != nil:
		return fmt.Errorf("hostPath type check failed, %s is not a %s, unable to determine its type: %w", path, word, err)
	case have != want:
		return fmt.Errorf("hostPath type check failed: %s is not a %s, it's a %s", path, word, have)
	}
	return nil
}

func typeOf(path string) (corev1.HostPathType, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("path %q does not exist", path)
	}
	if err != nil {
		return "", err
	}
	switch mode := info.Mode(); {
	case mode&fs.ModeSocket != 0:
		return corev1.HostPathSocket, nil
	case mode&fs.ModeCharDevice != 0:
		return corev1.HostPathCharDev, nil
	case mode&fs.ModeDevice != 0:
		return corev1.HostPathBlockDev, nil
	case mode.IsDir():
		return corev1.HostPathDirectory, nil
	case mode.IsRegular():
		return corev1.HostPathFile, nil
	}
	return "", errors.New("only recognise file, directory, socket, block device and character device")
}
