package containerd_test

import (
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	agentruntime "github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/test/imagebuild"
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
	if _, err := f.Pull(t.Context(), registry+"/team/app:1", nil); err == nil {
		t.Fatal("pulled from a registry that is not there")
	}

	configure("127.0.0.1_1_", "not toml")
	if _, err := f.Pull(t.Context(), registry+"/team/app:1", nil); err == nil || !strings.Contains(err.Error(), f.registryConfigs()) {
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

func TestRegistryThatAsksWhoPulls(t *testing.T) {
	f := newFixture(t)
	private, err := imagebuild.StartRegistry("127.0.0.1:0", func(registry http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			if pull := r.Method == http.MethodGet || r.Method == http.MethodHead; pull && (user != "app" || password != "s3cret") {
				w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
				http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
				return
			}
			registry.ServeHTTP(w, r)
		})
	})
	f.must(err)
	t.Cleanup(func() { _ = private.Close() })
	spec, err := imagebuild.Busybox()
	f.must(err)
	image, err := imagebuild.Build(spec, runtime.GOARCH)
	f.must(err)
	ref, err := name.ParseReference(private.Host+"/team/app:1", name.Insecure)
	f.must(err)
	f.must(remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: "app", Password: "s3cret"})))

	for who, as := range map[string]*agentruntime.Credential{"nobody": nil, "a stranger": {Username: "app", Password: "guess"}} {
		if _, err := f.Pull(t.Context(), ref.Name(), as); err == nil || !strings.Contains(err.Error(), "authorization failed") && !strings.Contains(err.Error(), "401") {
			t.Errorf("pulling as %s: %v", who, err)
		}
	}
	if _, err := f.Pull(t.Context(), ref.Name(), &agentruntime.Credential{Username: "app", Password: "s3cret"}); err != nil {
		t.Errorf("pulling with the password: %v", err)
	}
}
