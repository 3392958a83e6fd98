package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/keelson-dev/keelson/test/imagebuild"
)

// Test images, by the names they have in a registry.
const (
	BusyboxImage    = "test/busybox:v1"
	TestserverImage = "test/testserver:v1"
)

// PushImages builds the test images and stores them in a registry. The test server is
// compiled from the module whose folder is root.
func PushImages(registry *imagebuild.Registry, root string) (err error) {
	busybox, err := imagebuild.Busybox()
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "keelson-images-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	server, err := testserver(root, folder)
	if err != nil {
		return err
	}
	for name, spec := range map[string]imagebuild.Spec{BusyboxImage: busybox, TestserverImage: server} {
		image, err := imagebuild.Build(spec, runtime.GOARCH)
		if err != nil {
			return err
		}
		if _, _, err := registry.Push(context.Background(), image, name); err != nil {
			return err
		}
	}
	return nil
}

// testserver is busybox and the compiled test server, which is its command.
func testserver(root, folder string) (imagebuild.Spec, error) {
	program := filepath.Join(folder, "testserver")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "./test/images/testserver")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return imagebuild.Spec{}, fmt.Errorf("compile testserver: %w\n%s", err, out)
	}
	spec, err := imagebuild.Busybox()
	if err != nil {
		return imagebuild.Spec{}, err
	}
	spec.Files["/testserver"] = imagebuild.File{HostPath: program}
	spec.Config = v1.Config{Entrypoint: []string{"/testserver"}, Cmd: []string{"http", ":8080"}, Env: spec.Config.Env}
	return spec, nil
}
