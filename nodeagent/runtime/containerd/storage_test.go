package containerd_test

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

func TestImagesAreListedAndRemoved(t *testing.T) {
	f := newFixture(t)
	large := func(spec *imagebuild.Spec) {
		spec.Files["/large"] = imagebuild.File{Content: incompressible(8 << 20), Mode: 0o644}
	}
	ref := f.push("large:1", large)
	pulled := f.pull(ref)
	again := f.pull(f.push("large:2", large)) // another name of the same
	images := func() []runtime.StoredImage {
		t.Helper()
		all, err := f.Runtime.Images(t.Context())
		f.must(err)
		return all
	}
	find := func(id string) *runtime.StoredImage {
		all := images()
		if i := slices.IndexFunc(all, func(i runtime.StoredImage) bool { return i.ID == id }); i >= 0 {
			return &all[i]
		}
		return nil
	}
	if len(images()) != 2 || again.ID != pulled.ID {
		t.Fatalf("images %+v", images())
	}
	stored := find(pulled.ID)
	if stored == nil || !slices.Equal(stored.Names, []string{ref, strings.TrimSuffix(ref, "1") + "2"}) ||
		!slices.Equal(stored.Digests, []string{pulled.Digest}) || stored.Size != pulled.Size || stored.CreatedAt.IsZero() || stored.Pinned {
		t.Fatalf("stored as %+v", stored)
	}

	folder, err := f.ImageFolder(t.Context())
	f.must(err)
	if !strings.HasPrefix(folder, f.daemon.Dir()) {
		t.Errorf("images lie in %s", folder)
	}
	p := f.newPod()
	config := p.config("app", "sh", "-c", "dd if=/dev/zero of=/written bs=1024 count=3000 2>/dev/null; echo written; sleep 1000")
	config.ImageRef = pulled.Ref
	id := p.run(config)
	p.waitOutput(id, "written")
	usage, err := f.ContainerUsage(t.Context(), id)
	f.must(err)
	if usage.Bytes < 3000<<10 || usage.Bytes > 4000<<10 || usage.Inodes < 2 {
		t.Errorf("the container uses %+v", usage)
	}
	if usage, err := f.ContainerUsage(t.Context(), "nobody"); err != nil || usage != (runtime.DiskUsage{}) {
		t.Errorf("a container that is gone: %+v, %v", usage, err)
	}

	// A container keeps what it was made of.
	f.must(f.RemoveImage(t.Context(), pulled.ID))
	f.must(f.RemoveImage(t.Context(), pulled.ID))
	if find(pulled.ID) != nil {
		t.Error("the image is still listed")
	}
	if got, err := f.Image(t.Context(), ref); err != nil || got != nil {
		t.Errorf("found %+v, %v", got, err)
	}
	var seen bytes.Buffer
	f.must(f.Exec(t.Context(), id, []string{"sh", "-c", "wc -c </large"}, runtime.Streams{Stdout: &seen}))
	if got := strings.TrimSpace(seen.String()); got != "8388608" {
		t.Errorf("the container sees %q", got)
	}
	f.must(f.StopContainer(t.Context(), id, 0))
	f.must(f.RemoveContainer(t.Context(), id))

	// Without containers its files are gone when RemoveImage returns.
	pulled = f.pull(ref)
	if f.count(folder, "large") == 0 {
		t.Fatal("the image's file is not where images lie")
	}
	f.must(f.RemoveImage(t.Context(), pulled.ID))
	if left := f.count(folder, "large"); left != 0 {
		t.Errorf("%d files of the image are left", left)
	}
	if f.pull(ref).ID != pulled.ID {
		t.Error("another image came")
	}
}

// incompressible is data that stays as large as it is.
func incompressible(size int) []byte {
	data := make([]byte, size)
	state := uint64(88172645463325252)
	for i := range data {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		data[i] = byte(state)
	}
	return data
}

// count counts the files of that name below a folder.
func (f *fixture) count(folder, name string) int {
	f.t.Helper()
	found := 0
	f.must(filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // containerd is at work
		}
		if err == nil && entry.Name() == name {
			found++
		}
		return err
	}))
	return found
}
