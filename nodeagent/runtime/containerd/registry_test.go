package containerd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRegistryConfigurations(t *testing.T) {
	f := newFixture(t)
	f.push("team/app:1", nil)
	configure := func(registry, text string) {
		t.Helper()
		dir := filepath.Join(f.registryConfigs(), registry)
		f.must(os.MkdirAll(dir, 0o755))
		f.must(os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o644))
	}
	// Nothing listens at the registry itself: the answer can come from the mirror only.
	const registry = "127.0.0.1:1"
	if _, err := f.Pull(t.Context(), registry+"/team/app:1"); err == nil {
		t.Fatal("pulled from a registry that is not there")
	}

	configure("127.0.0.1_1_", "not toml")
	if _, err := f.Pull(t.Context(), registry+"/team/app:1"); err == nil || !strings.Contains(err.Error(), f.registryConfigs()) {
		t.Errorf("a configuration that cannot be read: error %v, want one that names its folder", err)
	}
	configure("127.0.0.1_1_", `server = "http://`+f.registry.Host+`"`)
	if got := f.pull(registry + "/team/app:1"); got.Ref != registry+"/team/app:1" {
		t.Errorf("image of a mirror is called %q", got.Ref)
	}
	configure("_default", `server = "http://`+f.registry.Host+`"`)
	if got := f.pull("registry.example/team/app:1"); got.Ref != "registry.example/team/app:1" {
		t.Errorf("image of the mirror for all registries is called %q", got.Ref)
	}
}
