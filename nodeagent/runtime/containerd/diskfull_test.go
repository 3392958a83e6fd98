package containerd_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

// onSmallDisk is a fixture whose images, containers and logs lie on a disk of so many
// MiB, and a folder on another one.
func onSmallDisk(t *testing.T, mebibytes int) (f *fixture, elsewhere string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a disk")
	}
	elsewhere = t.TempDir()
	disk, err := os.MkdirTemp("", "disk") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%dm", mebibytes)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Errorf("unmount the disk: %v", err)
		}
		if err := os.Remove(disk); err != nil {
			t.Errorf("remove the disk's folder: %v", err)
		}
	})
	t.Setenv("TMPDIR", disk)
	return newFixture(t), elsewhere
}

// fill writes a file of so many bytes, or of all that fit when size is negative, and
// returns what frees them.
func (f *fixture) fill(size int) (free func()) {
	f.t.Helper()
	path := filepath.Join(f.daemon.Dir(), "filler")
	file, err := os.Create(path)
	f.must(err)
	chunk := make([]byte, 4096)
	for written := 0; size < 0 || written < size; written += len(chunk) {
		if _, err = file.Write(chunk); err != nil {
			break
		}
	}
	if size >= 0 {
		f.must(err)
	}
	f.must(file.Close())
	return func() { f.must(os.Remove(path)) }
}

func TestDiskFullWhileAnImageIsUnpacked(t *testing.T) {
	f, _ := onSmallDisk(t, 64)
	p := f.newPod()
	running := p.shell("runs", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done")
	ref := f.push("large:1", func(spec *imagebuild.Spec) {
		spec.Files["/large"] = imagebuild.File{Content: incompressible(12 << 20), Mode: 0o644}
	})
	free := f.fill(40 << 20) // the download fits, its files do not
	if _, err := f.Pull(context.Background(), ref, nil); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Fatalf("Pull = %v", err)
	}
	if image, err := f.Image(t.Context(), ref); err != nil || image != nil {
		t.Errorf("half an image is here: %+v, %v", image, err)
	}
	if got := p.container(running); got.State != runtime.Running {
		t.Errorf("the container that ran is %+v", got)
	}
	free()
	image := f.pull(ref)
	config := p.config("uses", "sh", "-c", "wc -c < /large")
	config.ImageRef = image.Ref
	if id := p.run(config); p.waitExited(id).ExitCode != 0 || strings.TrimSpace(p.output(id)) != "12582912" {
		t.Errorf("the container says %q", p.output(id))
	}
	f.must(f.StopContainer(t.Context(), running, 0))
}

func TestDiskFullWhileLogsAreWritten(t *testing.T) {
	f, elsewhere := onSmallDisk(t, 40)
	p := f.newPod()
	script := "i=0; while :; do i=$((i+1)); echo number $i; echo $i > /progress/at.new; mv /progress/at.new /progress/at; done"
	start := func(name string, interactive bool) (id string, progress func() int) {
		dir := filepath.Join(elsewhere, name)
		f.must(os.Mkdir(dir, 0o755))
		config := p.config(name, "sh", "-c", script)
		config.Stdin = interactive
		config.Mounts = []runtime.Mount{{HostPath: dir, ContainerPath: "/progress"}}
		return p.run(config), func() int {
			data, err := os.ReadFile(filepath.Join(dir, "at"))
			if err != nil {
				return 0
			}
			at, _ := strconv.Atoi(strings.TrimSpace(string(data))) // half a number is none
			return at
		}
	}
	for name, interactive := range map[string]bool{"logger": false, "relay": true} {
		id, progress := start(name, interactive)
		f.eventually(name+" talks", func() bool { return progress() > 100 })
		free := f.fill(-1)
		before := progress()
		f.eventually(name+" goes on although nothing can be written", func() bool { return progress() > before+2000 })
		if got := p.container(id); got.State != runtime.Running {
			t.Errorf("%s: the container is %+v", name, got)
		}
		free()
		p.waitOutput(id, "bytes of output were lost here: ")
		loss := p.output(id)
		loss, _, _ = strings.Cut(loss[strings.Index(loss, "bytes of output were lost here: "):], "\n")
		if !strings.Contains(loss, "no space left on device") {
			t.Errorf("%s: the log says %q", name, loss)
		}
		after := progress()
		p.waitOutput(id, fmt.Sprintf("number %d\n", after+10))
		f.must(f.StopContainer(t.Context(), id, 0))
	}
}
