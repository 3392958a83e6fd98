package imagearchive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func program(t *testing.T, content string) Spec {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return Spec{Repository: "example.org/server", Program: path, User: "65532:65532"}
}

func write(t *testing.T, dir string, s Spec) string {
	t.Helper()
	name, err := Write(dir, s)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func contents(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheArchiveIsAnImageOfTheProgram(t *testing.T) {
	dir := t.TempDir()
	name := write(t, dir, program(t, "the program"))
	data, err := os.ReadFile(filepath.Join(dir, list(t, dir)[0]))
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, data)
	blob := func(d ocispec.Descriptor, into any) []byte {
		t.Helper()
		content := files["blobs/sha256/"+d.Digest.Encoded()]
		sum := sha256.Sum256(content)
		if hex.EncodeToString(sum[:]) != d.Digest.Encoded() || int64(len(content)) != d.Size {
			t.Fatalf("blob %s has %d bytes and another digest", d.Digest, len(content))
		}
		if into != nil {
			if err := json.Unmarshal(content, into); err != nil {
				t.Fatal(err)
			}
		}
		return content
	}
	var index ocispec.Index
	if err := json.Unmarshal(files["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	if got := index.Manifests[0].Annotations["io.containerd.image.name"]; got != name || !strings.HasPrefix(name, "example.org/server:") {
		t.Errorf("the archive names the image %q, Write %q", got, name)
	}
	var manifest ocispec.Manifest
	var image ocispec.Image
	blob(index.Manifests[0], &manifest)
	blob(manifest.Config, &image)
	if diff := cmp.Diff(ocispec.ImageConfig{Entrypoint: []string{"/server"}, User: "65532:65532", WorkingDir: "/"}, image.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if image.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Errorf("layer %s is said to be %s", manifest.Layers[0].Digest, image.RootFS.DiffIDs[0])
	}
	if got := contents(t, blob(manifest.Layers[0], nil)); string(got["server"]) != "the program" || len(got) != 1 {
		t.Errorf("the layer holds %q", got)
	}
}

func TestAnArchiveIsWrittenWhenTheProgramChanges(t *testing.T) {
	dir := t.TempDir()
	s := program(t, "one")
	if err := os.WriteFile(filepath.Join(dir, "server-of-mine.tar"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first := write(t, dir, s)
	before, err := os.Stat(filepath.Join(dir, list(t, dir)[0]))
	if err != nil {
		t.Fatal(err)
	}
	if again := write(t, dir, s); again != first {
		t.Errorf("the same program is called %s, then %s", first, again)
	}
	if after, err := os.Stat(filepath.Join(dir, list(t, dir)[0])); err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the same archive was written again (%v)", err)
	}
	// What a crash has left of the next one.
	leftover := filepath.Join(dir, ".server-0123456789abcdef.tar.77")
	if err := errors.Join(os.WriteFile(leftover, nil, 0o600), os.WriteFile(s.Program, []byte("two"), 0o755)); err != nil {
		t.Fatal(err)
	}
	second := write(t, dir, s)
	if second == first {
		t.Errorf("another program has the same name %s", second)
	}
	_, tag, _ := strings.Cut(second, ":")
	if diff := cmp.Diff([]string{"server-" + tag + ".tar", "server-of-mine.tar"}, list(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if err := Remove(dir, s.Program); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"server-of-mine.tar"}, list(t, dir)); diff != "" {
		t.Errorf("files after removal (-want +got):\n%s", diff)
	}
}

func TestWriteSaysWhichProgramIsMissing(t *testing.T) {
	if _, err := Write(t.TempDir(), Spec{Repository: "r", Program: "/does/not/exist"}); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("error %v", err)
	}
}
