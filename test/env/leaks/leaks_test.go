package leaks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/test/env/leaks"
	"github.com/keelson-dev/keelson/test/env/machine"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

func TestCompareNamesWhatWasLeft(t *testing.T) {
	for name, tc := range map[string]struct {
		leave func(t *testing.T)
		want  string
	}{
		"nothing": {leave: func(*testing.T) {}},
		"a process": {want: "process sleep 4242", leave: func(t *testing.T) {
			cmd := exec.Command("sleep", "4242")
			must(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		}},
		"a mount": {want: "mount ", leave: func(t *testing.T) {
			dir := t.TempDir()
			must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
			t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
		}},
		"an interface": {want: "interface klsleak bridge", leave: func(t *testing.T) {
			link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "klsleak"}}
			must(t, netlink.LinkAdd(link))
			t.Cleanup(func() { must(t, netlink.LinkDel(link)) })
		}},
		"a chain": {want: "iptables filter: :KLS-LEAK", leave: func(t *testing.T) {
			must(t, exec.Command("iptables", "-N", "KLS-LEAK").Run())
			t.Cleanup(func() { must(t, exec.Command("iptables", "-X", "KLS-LEAK").Run()) })
		}},
		"a file": {want: "file /var/lib/keelson/leak", leave: func(t *testing.T) {
			path := filepath.Join("/var/lib/keelson", "leak")
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, nil, 0o600))
			t.Cleanup(func() { must(t, os.RemoveAll(filepath.Dir(path))) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := leaks.Take()
			must(t, err)
			tc.leave(t)
			after, err := leaks.Take()
			must(t, err)
			err = before.Compare(after)
			if tc.want == "" {
				must(t, err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
