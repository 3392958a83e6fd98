// Package images assembles the three images of the Guestbook on this machine:
// Redis from its Debian package, the page from its Go source. They go to a registry
// on loopback, from which the node really pulls them.
package images

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

// redisServer is where Debian's package redis-server puts the program.
const redisServer = "/usr/bin/redis-server"

// slaveScript starts a replica of the master, found as GET_HOSTS_FROM says.
const slaveScript = `#!/bin/sh
if [ "$GET_HOSTS_FROM" = env ]; then
  master=$REDIS_MASTER_SERVICE_HOST
else
  master=redis-master
fi
exec redis-server --protected-mode no --save "" --replicaof "$master" 6379
`

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Push builds the images and pushes them as guestbook/{redis-master,redis-slave,
// frontend}:v1. ModuleRoot is the folder with go.mod: the page is compiled there.
func Push(ctx context.Context, registry *imagebuild.Registry, moduleRoot string) ([]string, error) {
	frontend, err := frontendSpec(ctx, moduleRoot)
	if err != nil {
		return nil, err
	}
	master, err := redisSpec()
	if err != nil {
		return nil, err
	}
	slave, err := redisSpec()
	if err != nil {
		return nil, err
	}
	master.Config.Entrypoint = []string{redisServer}
	master.Config.Cmd = []string{"--protected-mode", "no", "--save", ""}
	slave.Files["/run.sh"] = imagebuild.File{Content: []byte(slaveScript)}
	slave.Config.Cmd = []string{"/run.sh"}

	var refs []string
	for _, image := range []struct {
		name string
		spec imagebuild.Spec
	}{{"redis-master", master}, {"redis-slave", slave}, {"frontend", frontend}} {
		built, err := imagebuild.Build(image.spec, runtime.GOARCH)
		if err != nil {
			return nil, fmt.Errorf("build image %s: %w", image.name, err)
		}
		ref, _, err := registry.Push(ctx, built, "guestbook/"+image.name+":v1")
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// redisSpec is an image with Redis, its libraries and a shell.
func redisSpec() (imagebuild.Spec, error) {
	if _, err := os.Stat(redisServer); err != nil {
		return imagebuild.Spec{}, fmt.Errorf("%s is missing: apt-get install redis-server", redisServer)
	}
	spec, err := imagebuild.Busybox()
	if err != nil {
		return imagebuild.Spec{}, err
	}
	if err := imagebuild.AddProgram(spec, redisServer); err != nil {
		return imagebuild.Spec{}, err
	}
	spec.Dirs = append(spec.Dirs, "/data")
	spec.Config = v1.Config{Env: []string{searchPath}, WorkingDir: "/data"}
	return spec, nil
}

// frontendSpec is an image with nothing but the static page server.
func frontendSpec(ctx context.Context, moduleRoot string) (spec imagebuild.Spec, err error) {
	dir, err := os.MkdirTemp("", "guestbook-")
	if err != nil {
		return imagebuild.Spec{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "frontend")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./examples/guestbook/frontend")
	build.Dir = moduleRoot
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return imagebuild.Spec{}, fmt.Errorf("compile the page: %w\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return imagebuild.Spec{}, err
	}
	return imagebuild.Spec{
		Files:  map[string]imagebuild.File{"/frontend": {Content: content}},
		Config: v1.Config{Entrypoint: []string{"/frontend"}, Env: []string{searchPath}},
	}, nil
}
