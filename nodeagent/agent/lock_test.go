package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inOwnNetwork runs the test in a network namespace of its own, where no agent is.
func inOwnNetwork(t *testing.T) {
	t.Helper()
	goruntime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); errors.Is(err, unix.EPERM) {
		t.Skip("no permission to make a network namespace")
	} else if err != nil {
		t.Fatal(err)
	}
}

func TestClaim(t *testing.T) {
	const both, agentOnly, proxyOnly = "both", "agent", "proxy"
	options := func(halves, root string) *Options {
		o := NewOptions()
		o.RootDir, o.Agent, o.Proxy = root, halves != proxyOnly, halves != agentOnly
		return o
	}
	tests := map[string]struct {
		second string
		// otherRoot gives the second a folder of its own.
		otherRoot bool
		first     string
		want      string
	}{
		"a second one in the same folder": {first: both, second: both,
			want: fmt.Sprintf("--root-dir: another keelson-node (process %d) works in ROOT: end it, or give this one a folder of its own\n"+
				"another keelson-node with --agent runs on this machine (in this network namespace): end it, there can be only one", os.Getpid())},
		"a second agent in another folder": {first: both, second: agentOnly, otherRoot: true,
			want: "another keelson-node with --agent runs on this machine (in this network namespace): end it, there can be only one"},
		"a second proxy": {first: both, second: proxyOnly,
			want: "another keelson-node with --proxy runs on this machine (in this network namespace): end it, there can be only one"},
		"agent and proxy apart": {first: agentOnly, second: proxyOnly},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inOwnNetwork(t)
			root := t.TempDir()
			first, err := claim(t.Context(), options(tt.first, root))
			if err != nil {
				t.Fatal(err)
			}
			secondRoot := root
			if tt.otherRoot {
				secondRoot = t.TempDir()
			}
			second, err := claim(t.Context(), options(tt.second, secondRoot))
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), root, "ROOT")
			}
			if got != tt.want {
				t.Errorf("error is %q, want %q", got, tt.want)
			}
			if err == nil {
				if err := second.release(); err != nil {
					t.Error(err)
				}
			}

			// What the first held, and what the second held before it failed, is free again.
			if err := first.release(); err != nil {
				t.Error(err)
			}
			third, err := claim(t.Context(), options(both, secondRoot))
			if err != nil {
				t.Fatalf("after the first has ended: %v", err)
			}
			if err := third.release(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRemoveRoot(t *testing.T) {
	for name, file := range map[string]string{"an empty folder goes": "", "a folder with something else stays": "mine"} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			c := &claims{}
			if err := c.lockRoot(root); err != nil {
				t.Fatal(err)
			}
			if file != "" {
				if err := os.WriteFile(filepath.Join(root, file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(removeRoot(root), removeRoot(root), c.release()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(root); (err == nil) != (file != "") {
				t.Errorf("the folder: %v", err)
			}
			if _, err := os.Stat(lockPath(root)); err == nil {
				t.Error("the lock is still there")
			}
		})
	}
}
