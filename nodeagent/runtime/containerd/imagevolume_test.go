package containerd_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

func TestImageAsVolume(t *testing.T) {
	f := newFixture(t)
	data := f.pull(f.push("data:1", func(spec *imagebuild.Spec) {
		spec.Files["/data.json"] = imagebuild.File{Content: []byte("kitten"), Mode: 0o644}
	}))
	p := f.newPod()
	dir := filepath.Join(f.daemon.Dir(), "volume")
	f.must(os.Mkdir(dir, 0o755))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // of a test that failed

	// A process that died between the view and the mount leaves a view.
	f.must(f.MountImage(t.Context(), p.identity.UID, "data", data.Digest, dir))
	f.must(unix.Unmount(dir, 0))
	f.must(f.MountImage(t.Context(), p.identity.UID, "data", data.Digest, dir))

	if used, err := f.ImagesOfVolumes(t.Context()); err != nil || len(used) != 1 || used[0] != data.ID {
		t.Errorf("images in use %v, %v; want %s", used, err, data.ID)
	}
	// Whoever removes the image takes nothing from the Pod.
	f.must(f.RemoveImage(t.Context(), data.ID))

	config := p.config("reader", "sh", "-c", "cat /data/data.json; echo; echo x > /data/new; /data/bin/busybox true || echo not executed; rm /data/data.json; ls /data/data.json")
	config.Mounts = []runtime.Mount{{HostPath: dir, ContainerPath: "/data", ReadOnly: true, NoExec: true}}
	id := p.run(config)
	p.waitExited(id)
	out := p.output(id)
	for _, want := range []string{"kitten\n", "/data/new: Read-only file system", "not executed\n", "'/data/data.json': Read-only file system", "/data/data.json\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("output %q, want %q in it", out, want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing from the machine: %v, want a read-only file system", err)
	}
	f.must(unix.Unmount(dir, 0))
	for range 2 {
		f.must(f.ReleaseImage(t.Context(), p.identity.UID, "data"))
	}
	if used, err := f.ImagesOfVolumes(t.Context()); err != nil || len(used) != 0 {
		t.Errorf("images in use after the release: %v, %v", used, err)
	}
	err := f.MountImage(t.Context(), p.identity.UID, "data", data.Digest, dir)
	if err == nil || !strings.Contains(err.Error(), "not on this machine") {
		t.Errorf("mounted an image that is gone: %v", err)
	}
}
