package namespaces_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/namespaces"
)

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestANamespaceOutlivesItsThreadAndEndsWithItsFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	before := hostname(t)
	path := filepath.Join(t.TempDir(), "folder", "uts")
	if bound, err := namespaces.Bound(path); bound || err != nil {
		t.Fatalf("before it is made: bound %v, %v", bound, err)
	}
	err := namespaces.OnOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return err
		}
		if err := unix.Sethostname([]byte("elsewhere")); err != nil {
			return err
		}
		return namespaces.Bind("/proc/thread-self/ns/uts", path)
	})
	if err != nil {
		t.Fatal(err)
	}
	if bound, err := namespaces.Bound(path); !bound || err != nil {
		t.Errorf("bound %v, %v", bound, err)
	}
	var inside string
	err = namespaces.OnOwnThread(func() error {
		if err := namespaces.Enter(path, unix.CLONE_NEWUTS); err != nil {
			return err
		}
		var err error
		inside, err = os.Hostname()
		return err
	})
	if err != nil || inside != "elsewhere" {
		t.Errorf("inside it is named %q (%v)", inside, err)
	}
	if after := hostname(t); after != before {
		t.Errorf("the machine is named %q, was %q", after, before)
	}
	for range 2 {
		if err := namespaces.Unbind(path); err != nil {
			t.Error(err)
		}
	}
	if bound, err := namespaces.Bound(path); bound || err != nil {
		t.Errorf("after its end: bound %v, %v", bound, err)
	}
}

func TestAFileWithoutANamespaceIsNotBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if bound, err := namespaces.Bound(path); bound || err != nil {
		t.Errorf("bound %v, %v", bound, err)
	}
	if err := namespaces.OnOwnThread(func() error { return namespaces.Enter(path, unix.CLONE_NEWNET) }); err == nil {
		t.Error("entered a file")
	}
	if err := namespaces.Unbind(path); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}
