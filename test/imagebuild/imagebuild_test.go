package imagebuild_test

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"path"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/keelson-dev/keelson/test/imagebuild"
)

func TestPushedImageComesBackWhole(t *testing.T) {
	registry := startRegistry(t)
	spec := imagebuild.Spec{
		Files:    map[string]imagebuild.File{"/etc/motd": {Content: []byte("hello"), Mode: 0o600}, "/a/b/c": {}},
		Symlinks: map[string]string{"/bin/link": "../etc/motd"},
		Dirs:     []string{"/tmp"},
		Config:   v1.Config{Cmd: []string{"sh"}},
	}
	image, err := imagebuild.Build(spec, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	ref, digest, err := registry.Push(t.Context(), image, "team/thing:v1")
	if err != nil {
		t.Fatal(err)
	}

	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pulled.Digest(); err != nil || got.String() != digest {
		t.Errorf("digest %v (%v), want %s", got, err, digest)
	}
	want := map[string]string{
		"a": "", "a/b": "", "a/b/c": "", "bin": "", "bin/link": "-> ../etc/motd", "etc": "", "etc/motd": "hello", "tmp": "",
	}
	got := contents(t, pulled)
	for file, content := range want {
		if have, ok := got[file]; !ok || have != content {
			t.Errorf("%s holds %q (there: %v), want %q", file, have, ok, content)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the image holds %v, want %v", got, want)
	}
}

func TestBuildIsReproducible(t *testing.T) {
	spec, err := imagebuild.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string]bool{}
	for range 2 {
		image, err := imagebuild.Build(spec, runtime.GOARCH)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests[digest.String()] = true
	}
	if len(digests) != 1 {
		t.Errorf("two builds gave %v", digests)
	}
}

func TestAddProgramBringsItsLibraries(t *testing.T) {
	spec := imagebuild.Spec{Files: map[string]imagebuild.File{}}
	if err := imagebuild.AddProgram(spec, "/bin/ls"); err != nil {
		t.Fatal(err)
	}
	libc := false
	for path := range spec.Files {
		libc = libc || strings.Contains(path, "libc.so")
	}
	if !libc {
		t.Errorf("no C library among %v", spec.Files)
	}
}

func startRegistry(t *testing.T) *imagebuild.Registry {
	t.Helper()
	registry, err := imagebuild.StartRegistry("127.0.0.1:0", func(h http.Handler) http.Handler { return h })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	return registry
}

func contents(t *testing.T, image v1.Image) map[string]string {
	t.Helper()
	got := map[string]string{}
	reader := tar.NewReader(mutate.Extract(image))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		got[path.Clean(header.Name)] = string(content)
		if header.Typeflag == tar.TypeSymlink {
			got[path.Clean(header.Name)] = "-> " + header.Linkname
		}
	}
}
