package containerd_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

func TestImages(t *testing.T) {
	f := newFixture(t)
	ref := f.push("app:1", func(spec *imagebuild.Spec) {
		spec.Config.Entrypoint, spec.Config.Cmd = []string{"echo", "from the image:"}, []string{"default"}
		spec.Config.Env = []string{"PATH=/bin", "KEY=value"}
		spec.Config.WorkingDir, spec.Config.User, spec.Config.StopSignal = "/tmp", "app", "SIGQUIT"
	})
	image := func(ref string) *runtime.Image {
		t.Helper()
		got, err := f.Image(t.Context(), ref)
		f.must(err)
		return got
	}
	if got := image(ref); got != nil {
		t.Fatalf("image is here before it is pulled: %+v", got)
	}
	pulled := f.pull(ref)
	digest := strings.TrimPrefix(pulled.Digest, strings.TrimSuffix(ref, ":1")+"@")
	want := runtime.Image{
		Ref: ref, Digest: pulled.Digest, ID: pulled.ID, Size: pulled.Size,
		Entrypoint: []string{"echo", "from the image:"}, Cmd: []string{"default"}, Env: []string{"PATH=/bin", "KEY=value"},
		WorkingDir: "/tmp", User: "app", StopSignal: "SIGQUIT",
	}
	if diff := cmp.Diff(want, pulled); diff != "" {
		t.Errorf("pulled image (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(digest, "sha256:") || !strings.HasPrefix(pulled.ID, "sha256:") || pulled.Size < 100_000 {
		t.Errorf("digest %q, ID %q, size %d", digest, pulled.ID, pulled.Size)
	}
	for name, other := range map[string]string{"tag": ref, "repository digest": pulled.Digest, "tag and digest": ref + "@" + digest, "ID": pulled.ID} {
		if got := image(other); got == nil || got.ID != pulled.ID {
			t.Errorf("by %s %s: %+v", name, other, got)
		}
	}
	if got := image(strings.Replace(pulled.Digest, "/app@", "/other@", 1)); got != nil {
		t.Errorf("found under another repository: %+v", got)
	}

	t.Run("pulled by digest", func(t *testing.T) {
		if got := f.pull(f.busybox.Digest); got.ID != f.busybox.ID || got.Digest != f.busybox.Digest {
			t.Errorf("image is %+v", got)
		}
	})
	t.Run("what the image says is used", func(t *testing.T) {
		p := f.newPod()
		config := p.config("plain")
		config.ImageRef = pulled.Digest
		if got := p.waitExited(p.run(config)); p.output(got.ID) != "from the image: default\n" || got.ImageID != pulled.Digest {
			t.Errorf("output %q, image ID %q", p.output(got.ID), got.ImageID)
		}
		config = p.config("user", "sh", "-c", "id -u; id -g; id -G; pwd; echo $KEY $MORE")
		config.ImageRef, config.Env = pulled.Ref, []string{"MORE=and more"}
		id := p.run(config)
		p.waitExited(id)
		if got, want := p.output(id), "1001\n1002\n1002 1003\n/tmp\nvalue and more\n"; got != want {
			t.Errorf("output %q, want %q", got, want)
		}
	})
	t.Run("the image's stop signal is sent", func(t *testing.T) {
		p := f.newPod()
		config := p.config("quits", "sh", "-c", "trap 'exit 9' QUIT; trap '' TERM; echo ready; while :; do sleep 0.1; done")
		config.ImageRef = pulled.Ref
		id := p.run(config)
		p.waitOutput(id, "ready")
		f.must(f.StopContainer(t.Context(), id, patience))
		if got := p.container(id); got.ExitCode != 9 {
			t.Errorf("container is %+v", got)
		}
	})
}

func TestPullThatFails(t *testing.T) {
	f := newFixture(t)
	host := f.registry.Host
	tests := map[string]struct{ ref, want string }{
		"no such tag":        {host + "/busybox:none", host + "/busybox:none: not found"},
		"no such repository": {host + "/nothing:1", host + "/nothing:1: not found"},
		"no registry":        {"127.0.0.1:1/app:1", "connection refused"},
		"not a name":         {"UPPER", "must be lowercase"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := f.Pull(t.Context(), test.ref, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Pull = %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestContainerOfAnImageThatIsNotHere(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	config := p.config("app", "true")
	config.ImageRef = f.registry.Host + "/nothing:1"
	if _, err := f.CreateContainer(t.Context(), config); err == nil || !strings.Contains(err.Error(), "is not on this machine") {
		t.Errorf("CreateContainer = %v", err)
	}
}

func TestManyContainersOfANewImage(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	var configs []runtime.ContainerConfig
	for range 40 {
		configs = append(configs, p.config("app", "true"))
	}
	var all sync.WaitGroup
	for _, config := range configs {
		all.Go(func() {
			if _, err := f.CreateContainer(t.Context(), config); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
