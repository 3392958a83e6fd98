package containerd_test

import (
	"bytes"
	"compress/gzip"
	"io"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/keelson-dev/keelson/test/imagebuild"
)

// saved is an archive as docker save writes it.
func saved(t *testing.T, ref string) []byte {
	t.Helper()
	spec, err := imagebuild.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	spec.Config.Cmd = []string{"echo", "from the archive"}
	image, err := imagebuild.Build(spec, goruntime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, image, &archive); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

func TestImportImages(t *testing.T) {
	f := newFixture(t)
	archive := saved(t, "example.org/team/app:1")
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(archive); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	for what, content := range map[string]io.Reader{"plain": bytes.NewReader(archive), "compressed": &zipped, "once more": bytes.NewReader(archive)} {
		names, err := f.ImportImages(t.Context(), content)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if diff := cmp.Diff([]string{"example.org/team/app:1"}, names); diff != "" {
			t.Errorf("%s: names (-want +got):\n%s", what, diff)
		}
	}
	image, err := f.Image(t.Context(), "example.org/team/app:1")
	if err != nil || image == nil {
		t.Fatalf("image is %v, %v", image, err)
	}
	p := f.newPod()
	config := p.config("app")
	config.Command, config.Args, config.ImageRef = nil, nil, image.Ref
	if got := p.waitExited(p.run(config)); p.output(got.ID) != "from the archive\n" {
		t.Errorf("container said %q", p.output(got.ID))
	}
}

func TestImportImagesRefusesWhatIsNoArchive(t *testing.T) {
	f := newFixture(t)
	archive := saved(t, "example.org/team/app:1")
	for name, content := range map[string]io.Reader{
		"text":                        strings.NewReader("this is no archive, and long enough not to be taken for one that is empty"),
		"nothing":                     strings.NewReader(""),
		"an archive that was cut off": bytes.NewReader(archive[:len(archive)/2]),
	} {
		t.Run(name, func(t *testing.T) {
			names, err := f.ImportImages(t.Context(), content)
			if err == nil {
				t.Fatalf("imported %q", names)
			}
			if image, err := f.Image(t.Context(), "example.org/team/app:1"); err != nil || image != nil {
				t.Errorf("afterwards the image is %v, %v", image, err)
			}
		})
	}
}
