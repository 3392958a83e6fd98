package containerd

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// byContainerd resolves a user with containerd's own functions, which are not linked into
// the agent for their weight.
func byContainerd(root, name, login string) (specs.User, error) {
	spec := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}, Root: &specs.Root{Path: root}}
	container := &containers.Container{}
	if name != "root" && name != "0" {
		if err := oci.WithUser(name)(context.Background(), nil, container, spec); err != nil {
			return specs.User{}, err
		}
	}
	user := spec.Process.User
	err := oci.WithAdditionalGIDs(login)(context.Background(), nil, container, spec)
	user.AdditionalGids = spec.Process.User.AdditionalGids
	return user, err
}

func TestUsersAreThoseOfContainerd(t *testing.T) {
	full, empty := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\napp:x:1001:1002::/:/bin/sh\nlone:x:7:8::/:/bin/sh\n",
		"group":  "root:x:0:\nwheel:x:10:root,app\napp:x:1002:app\nextra:x:1003:app,lone\nown:x:8:lone\n",
	} {
		if err := os.MkdirAll(filepath.Join(full, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(full, "etc", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, login := range map[string]string{
		"root": "root", "0": "0", "0:0": "0", "root:root": "root", "0:5": "0", "app": "app", "1001": "1001", "1001:77": "1001",
		"app:extra": "app", "app:9": "app", "1001:extra": "1001", "lone": "lone", "7": "7", "4242": "4242", "4242:4243": "4242", "app:": "app",
		"nobody": "nobody", "app:nogroup": "app", "a:b:c": "a", "99999999999999999999": "", "2147483648": "", "-1": "", "1001:2147483648": "1001", "5:99999999999999999999": "5",
	} {
		for where, root := range map[string]string{"a full image": full, "an image without files": empty} {
			t.Run(name+" in "+where, func(t *testing.T) {
				want, wantErr := byContainerd(root, name, login)
				got, err := findUser(root, name)
				if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
					t.Fatalf("error %v, want %v", err, wantErr)
				}
				if err != nil {
					return
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("user (-want +got):\n%s", diff)
				}
			})
		}
	}
}
