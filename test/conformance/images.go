package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/keelson-dev/keelson/test/imagebuild"
)

// imagesRegistry is the registry whose names the suite's images have.
const imagesRegistry = "registry.k8s.io"

// imageNameAnnotation holds an image's name in an OCI layout.
const imageNameAnnotation = "org.opencontainers.image.ref.name"

// imagePath is PATH in every image that sets none itself.
const imagePath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// recipe is an image to assemble.
type recipe struct {
	// names are repositories and tags without the registry.
	names []string
	// onBase puts Debian's files below.
	onBase bool
	layers []imagebuild.Spec
	config v1.Config
}

// parts are the folders that hold what images are made of: bin/conformance, and those
// of this repository's own programs and of the control plane.
type parts struct {
	conformance, bin, controlPlane string
}

// assembleImages writes every image of the suite as an OCI layout, from which
// loadImages serves them. The layout takes its place when it is whole: what a run that
// failed has left is never taken for it.
func assembleImages(p parts) (err error) {
	base, err := imagebuild.TarLayer(filepath.Join(p.conformance, "base.tar"))
	if err != nil {
		return fmt.Errorf("%w: run hack/build-conformance.sh first", err)
	}
	recipes, err := recipes(p)
	if err != nil {
		return err
	}
	place := imagesFolder(p.conformance)
	folder := place + ".new"
	if err := errors.Join(os.RemoveAll(folder), os.RemoveAll(place)); err != nil {
		return err
	}
	store, err := layout.Write(folder, empty.Index)
	if err != nil {
		return fmt.Errorf("make folder of images: %w", err)
	}
	for _, r := range recipes {
		image, err := r.build(base)
		if err != nil {
			return fmt.Errorf("assemble %s: %w", r.names[0], err)
		}
		for _, name := range r.names {
			annotation := layout.WithAnnotations(map[string]string{imageNameAnnotation: name})
			if err := store.AppendImage(image, annotation); err != nil {
				return fmt.Errorf("store %s: %w", name, err)
			}
		}
	}
	return os.Rename(folder, place)
}

func imagesFolder(conformance string) string { return filepath.Join(conformance, "images") }

func (r recipe) build(base v1.Layer) (v1.Image, error) {
	var layers []v1.Layer
	if r.onBase {
		layers = append(layers, base)
	}
	for _, spec := range r.layers {
		layer, err := imagebuild.SpecLayer(spec)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	r.config.Env = append([]string{imagePath}, r.config.Env...)
	return imagebuild.Stack(r.config, runtime.GOARCH, layers...)
}

// loadImages pushes the assembled images into a registry.
func loadImages(ctx context.Context, conformance string, registry *imagebuild.Registry) error {
	index, err := layout.ImageIndexFromPath(imagesFolder(conformance))
	if err != nil {
		return fmt.Errorf("open the images: %w: run `make conformance-images` first", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("read the list of images: %w", err)
	}
	for _, entry := range manifest.Manifests {
		image, err := index.Image(entry.Digest)
		if err != nil {
			return fmt.Errorf("read image %s: %w", entry.Digest, err)
		}
		if _, _, err := registry.Push(ctx, image, entry.Annotations[imageNameAnnotation]); err != nil {
			return err
		}
	}
	return nil
}

// recipes lists the images that conformance tests of this version use
// (test/utils/image/manifest.go there names them), as far as they can be made here.
func recipes(p parts) ([]recipe, error) {
	agnhost, err := agnhostLayer(p)
	if err != nil {
		return nil, err
	}
	busybox, err := busyboxLayer(p)
	if err != nil {
		return nil, err
	}
	list := []recipe{
		{names: []string{"e2e-test-images/agnhost:2.66.1", "e2e-test-images/agnhost:2.55"}, onBase: true,
			layers: []imagebuild.Spec{agnhost}, config: v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}}},
		{names: []string{"e2e-test-images/glibc-dns-testing:2.1.1"}, onBase: true, config: v1.Config{Cmd: []string{"bash"}}},
		{names: []string{"e2e-test-images/nonroot:1.5"}, onBase: true, config: v1.Config{Cmd: []string{"sh"}, User: "1234"}},
		{names: []string{"e2e-test-images/nonewprivs:1.4"}, onBase: true, config: v1.Config{Cmd: []string{"nnp"}},
			layers: []imagebuild.Spec{program("/usr/local/bin/nnp", filepath.Join(p.conformance, "nonewprivs"), 0o6755)}},
		{names: []string{"e2e-test-images/busybox:1.37.0-2", "e2e-test-images/busybox:1.36.1-1"},
			layers: []imagebuild.Spec{busybox}, config: v1.Config{Cmd: []string{"sh"}}},
		{names: []string{"etcd:3.7.0-0"}, onBase: true,
			layers: []imagebuild.Spec{program("/usr/local/bin/etcd", filepath.Join(p.controlPlane, "etcd"), 0o755)}},
		{names: []string{"e2e-test-images/sample-apiserver:1.29.2"}, onBase: true, config: v1.Config{Entrypoint: []string{"/sample-apiserver"}},
			layers: []imagebuild.Spec{program("/sample-apiserver", filepath.Join(p.conformance, "sample-apiserver"), 0o755)}},
		{names: []string{"pause:3.10.2", "pause:3.10.1", "pause:3.10"}, config: v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"},
			layers: []imagebuild.Spec{program("/pause", filepath.Join(p.bin, "pause"), 0o755)}},
	}
	for _, version := range []string{"1.27.0", "1.28.0"} {
		list = append(list, recipe{names: []string{"e2e-test-images/nginx:" + version + "-2"}, onBase: true, layers: []imagebuild.Spec{nginxLayer()},
			config: v1.Config{Cmd: []string{"nginx", "-g", "daemon off;"}, Env: []string{"NGINX_VERSION=" + version}}})
	}
	for _, pet := range []string{"kitten", "nautilus"} {
		files, err := filesOf(filepath.Join(p.conformance, pet))
		if err != nil {
			return nil, err
		}
		list = append(list, recipe{names: []string{"e2e-test-images/" + pet + ":1.8"}, onBase: true, layers: []imagebuild.Spec{agnhost, {Files: files}},
			config: v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"test-webserver"}}})
	}
	return list, nil
}

func program(name, hostPath string, mode int64) imagebuild.Spec {
	return imagebuild.Spec{
		Files: map[string]imagebuild.File{name: {HostPath: hostPath, Mode: mode}},
		Dirs:  []string{"/tmp"},
	}
}

// filesOf are the files of a folder, at the root of an image.
func filesOf(folder string) (map[string]imagebuild.File, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("%w: run hack/build-conformance.sh first", err)
	}
	files := map[string]imagebuild.File{}
	for _, entry := range entries {
		files["/"+entry.Name()] = imagebuild.File{HostPath: filepath.Join(folder, entry.Name()), Mode: 0o644}
	}
	return files, nil
}

// agnhostLayer is what upstream's Dockerfile of agnhost adds to its base. The tests of
// image volumes expect that base to be Alpine.
func agnhostLayer(p parts) (imagebuild.Spec, error) {
	base := filepath.Join(p.conformance, "base.tar")
	users, err := fileInTar(base, "etc/passwd")
	if err != nil {
		return imagebuild.Spec{}, err
	}
	groups, err := fileInTar(base, "etc/group")
	if err != nil {
		return imagebuild.Spec{}, err
	}
	text := func(content string) imagebuild.File { return imagebuild.File{Content: []byte(content), Mode: 0o644} }
	return imagebuild.Spec{
		Files: map[string]imagebuild.File{
			"/agnhost":        {HostPath: filepath.Join(p.conformance, "agnhost")},
			"/localhost.crt":  {HostPath: filepath.Join(p.conformance, "localhost.crt"), Mode: 0o644},
			"/localhost.key":  {HostPath: filepath.Join(p.conformance, "localhost.key"), Mode: 0o644},
			"/etc/passwd":     text(users + "user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n"),
			"/etc/group":      text(groups + "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"),
			"/etc/os-release": text("NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.23.0\nPRETTY_NAME=\"Alpine Linux v3.23 (a stand-in on Debian)\"\n"),
		},
		Symlinks: map[string]string{"/agnhost-2": "agnhost", "/usr/local/bin/iperf": "/usr/bin/iperf"},
		Dirs:     []string{"/uploads"},
	}, nil
}

func fileInTar(archive, name string) (string, error) {
	file, err := os.Open(archive)
	if err != nil {
		return "", fmt.Errorf("%w: run hack/build-conformance.sh first", err)
	}
	defer file.Close()
	reader := tar.NewReader(file)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return "", fmt.Errorf("find %s in %s: %w", name, archive, fs.ErrNotExist)
		}
		if err != nil {
			return "", fmt.Errorf("read %s: %w", archive, err)
		}
		if path.Clean(header.Name) == name {
			content, err := io.ReadAll(reader)
			return string(content), err
		}
	}
}

// busyboxLayer holds upstream's busybox and a link for each of its tools.
func busyboxLayer(p parts) (imagebuild.Spec, error) {
	busybox := filepath.Join(p.conformance, "busybox")
	out, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return imagebuild.Spec{}, fmt.Errorf("list the tools of %s (hack/build-conformance.sh builds it): %w", busybox, err)
	}
	tools := slices.DeleteFunc(strings.Fields(string(out)), func(tool string) bool { return tool == "busybox" })
	spec := imagebuild.Spec{
		Files: map[string]imagebuild.File{
			"/bin/busybox": {HostPath: busybox},
			"/etc/passwd": {Mode: 0o644, Content: []byte("root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n" +
				"www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n")},
			"/etc/group": {Mode: 0o644, Content: []byte("root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nnogroup:x:65534:\n")},
		},
		Symlinks: map[string]string{},
		Dirs:     []string{"/tmp", "/root", "/home", "/var/spool", "/usr/bin", "/usr/sbin", "/dev", "/proc", "/sys"},
	}
	for _, tool := range tools {
		spec.Symlinks["/bin/"+tool] = "busybox"
	}
	return spec, nil
}

const nginxConfig = `worker_processes 1;
pid /tmp/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 256; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  access_log /dev/stdout;
  client_body_temp_path /tmp/client;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  server {
    listen 80;
    listen [::]:80;
    server_name localhost;
    location / { root /usr/share/nginx/html; index index.html index.htm; }
  }
}
`

// nginxLayer makes Debian's nginx answer as the official image does.
func nginxLayer() imagebuild.Spec {
	page := imagebuild.File{Mode: 0o644, Content: []byte("<!DOCTYPE html>\n<html>\n<head><title>Welcome to nginx!</title></head>\n" +
		"<body><h1>Welcome to nginx!</h1></body>\n</html>\n")}
	return imagebuild.Spec{
		Files: map[string]imagebuild.File{
			"/etc/nginx/nginx.conf":            {Mode: 0o644, Content: []byte(nginxConfig)},
			"/usr/share/nginx/html/index.html": page,
			"/usr/share/nginx/html/50x.html":   page,
		},
		Symlinks: map[string]string{"/var/log/nginx/access.log": "/dev/stdout", "/var/log/nginx/error.log": "/dev/stderr"},
	}
}
