package containerd_test

import (
	"errors"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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

func TestImageAsVolumeOfAPodWithUsersOfItsOwn(t *testing.T) {
	secret, err := imagebuild.SpecLayer(imagebuild.Spec{Files: map[string]imagebuild.File{"/secret": {Content: []byte("of root\n"), Mode: 0o600}}})
	if err != nil {
		t.Fatal(err)
	}
	above, err := imagebuild.SpecLayer(imagebuild.Spec{Files: map[string]imagebuild.File{"/above": {Mode: 0o644}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, layers := range map[string][]v1.Layer{"one layer": {secret}, "two layers": {secret, above}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			p := f.newUserPod()
			image, err := imagebuild.Stack(v1.Config{}, goruntime.GOARCH, layers...)
			f.must(err)
			data := f.pull(f.pushBuilt("data:1", image))
			dir := filepath.Join(f.daemon.Dir(), "volume")
			f.must(os.Mkdir(dir, 0o755))
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // of a test that failed
			f.must(f.MountImage(t.Context(), p.identity.UID, "data", data.Digest, dir))

			config := p.userConfig("reader", "stat -c '%u:%g %n' /data /data/secret; cat /data/secret; echo x > /data/new; chmod 777 /data/secret")
			config.Mounts = []runtime.Mount{{HostPath: dir, ContainerPath: "/data", ReadOnly: true, NoExec: true, Mapped: true}}
			id := p.run(config)
			p.waitExited(id)
			out := p.output(id)
			for _, want := range []string{"0:0 /data\n0:0 /data/secret\nof root\n", "/data/new: Read-only file system", "/data/secret: Read-only file system"} {
				if !strings.Contains(out, want) {
					t.Errorf("output %q, want %q in it", out, want)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing from the machine: %v, want a read-only file system", err)
			}
			if left, _ := filepath.Glob(filepath.Join(f.stateDir, "mapped", "*")); len(left) > 0 {
				t.Errorf("left after the mount: %v", left)
			}
			f.must(unix.Unmount(dir, 0))
			f.must(f.ReleaseImage(t.Context(), p.identity.UID, "data"))
		})
	}
}
