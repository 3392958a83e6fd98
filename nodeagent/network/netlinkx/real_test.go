package netlinkx

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/userns"
)

func TestRetry(t *testing.T) {
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		results   []error
		want      error
		wantCalls int
	}{
		"success is not repeated":          {[]error{nil}, nil, 1},
		"another error is not repeated":    {[]error{boom, nil}, boom, 1},
		"an interrupted call is repeated":  {[]error{unix.EINTR, unix.EINTR, nil}, nil, 3},
		"an interrupted dump is repeated":  {[]error{netlink.ErrDumpInterrupted, nil}, nil, 2},
		"an error after an interruption":   {[]error{fmt.Errorf("list: %w", unix.EINTR), boom}, boom, 2},
		"an interruption that never stops": {nil, unix.EINTR, maxAttempts},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			err := retryErr(func() error {
				calls++
				if calls <= len(tc.results) {
					return tc.results[calls-1]
				}
				return unix.EINTR
			})
			if !errors.Is(err, tc.want) || calls != tc.wantCalls {
				t.Errorf("got %v after %d calls, want %v after %d", err, calls, tc.want, tc.wantCalls)
			}
		})
	}
}

// newNamespace returns the path of a namespace that is gone when the test ends.
func newNamespace(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ns")
	err := New().CreateNamespace(path)
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs root and CAP_SYS_ADMIN to make network namespaces: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := New().DeleteNamespace(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestNamespaces(t *testing.T) {
	k, path := New(), newNamespace(t)
	inode := func() uint64 {
		var s unix.Stat_t
		if err := unix.Stat(path, &s); err != nil {
			t.Fatal(err)
		}
		return s.Ino
	}
	before := inode()
	if err := k.CreateNamespace(path); err != nil || inode() != before {
		t.Errorf("making it again: %v, inode %d; want the same one, %d", err, inode(), before)
	}
	if names, err := k.ListNamespaces(filepath.Dir(path)); err != nil || len(names) != 1 || names[0] != "ns" {
		t.Errorf("listed %v, %v", names, err)
	}
	for range 2 {
		if err := k.DeleteNamespace(path); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	for what, where := range map[string]string{"a plain file": path, "nothing": path + "x"} {
		if err := k.InNamespace(where, func(Handle) error { return nil }); !errors.Is(err, ErrNotFound) {
			t.Errorf("entering %s: %v, want %v", what, err, ErrNotFound)
		}
	}
	if names, err := k.ListNamespaces(path + "x"); err != nil || len(names) > 0 {
		t.Errorf("a directory that does not exist: %v, %v; want nothing", names, err)
	}
}

func TestWhatIsMissingOrThereAlready(t *testing.T) {
	path := newNamespace(t)
	err := New().InNamespace(path, func(h Handle) error {
		_, err := h.Link("nope")
		for what, err := range map[string]error{
			"Link":       err,
			"DeleteLink": h.DeleteLink("nope"),
			"Activate":   h.Activate("nope"),
			"SetUp":      h.SetUp(4711),
			"SetSysctl":  h.SetSysctl("net/ipv4/conf/nope/rp_filter", "1"),
			"AddVeth":    h.AddVeth(Veth{Name: "a", PeerName: "b", PeerNS: path + "x", MTU: 1500}),
		} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v, want %v", what, err, ErrNotFound)
			}
		}
		if err := h.DeleteRoute(Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Unreachable: true}); err != nil {
			t.Errorf("deleting a route that is not there: %v", err)
		}
		if err := h.AddBridge(Bridge{Name: "br", MTU: 1500}); err != nil {
			return err
		}
		if err := h.AddBridge(Bridge{Name: "br", MTU: 1500}); !errors.Is(err, ErrExists) {
			t.Errorf("AddBridge: %v, want %v", err, ErrExists)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsSetIsListed(t *testing.T) {
	err := New().InNamespace(newNamespace(t), func(h Handle) error {
		if err := h.AddBridge(Bridge{Name: "br", MTU: 1400, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}); err != nil {
			return err
		}
		br, err := h.Link("br")
		if err != nil {
			return err
		}
		own := Addr{Link: br.Index, Prefix: netip.MustParsePrefix("10.1.0.1/24")}
		if err := errors.Join(h.SetUp(br.Index), h.ReplaceAddr(own), h.ReplaceAddr(own)); err != nil {
			return err
		}
		want := []Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: br.Index, Via: netip.MustParseAddr("10.1.0.9"), Protocol: 75},
			{Dst: netip.MustParsePrefix("10.2.0.0/16"), Unreachable: true, Protocol: 75},
			{Dst: netip.MustParsePrefix("10.3.0.5/32"), Link: br.Index, Src: own.Prefix.Addr(), Protocol: 75},
		}
		for _, r := range want {
			if err := errors.Join(h.ReplaceRoute(r), h.ReplaceRoute(r)); err != nil {
				return err
			}
		}
		routes, err := h.Routes()
		if err != nil {
			return err
		}
		got := map[netip.Prefix]Route{}
		for _, r := range routes {
			got[r.Dst] = r
		}
		for _, r := range want {
			if got[r.Dst] != r {
				t.Errorf("route %+v is listed as %+v", r, got[r.Dst])
			}
		}
		addrs, err := h.Addrs()
		if err != nil || len(addrs) != 1 || addrs[0] != own {
			t.Errorf("addresses %v, %v; want %v", addrs, err, own)
		}
		br, err = h.Link("br")
		if br.MTU != 1400 || br.Kind != "bridge" || !br.Up {
			t.Errorf("got %+v, %v; want a bridge that is up with MTU 1400", br, err)
		}
		return errors.Join(err, h.DeleteAddr(own), h.DeleteAddr(own))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The way for kernels that do not complete a change of carrier when asked.
func TestReplacedQueueSendsAtOnce(t *testing.T) {
	here, there := newNamespace(t), newNamespace(t)
	a, b := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2")
	up := func(h Handle, name string, own netip.Addr) (int, error) {
		l, err := h.Link(name)
		if err != nil {
			return 0, err
		}
		return l.Index, errors.Join(h.SetUp(l.Index), h.ReplaceAddr(Addr{Link: l.Index, Prefix: netip.PrefixFrom(own, 24)}))
	}
	var index int
	var server net.Listener
	err := New().InNamespace(here, func(h Handle) (err error) {
		if err := h.AddVeth(Veth{Name: "a0", PeerName: "b0", PeerNS: there, MTU: 1500}); err != nil {
			return err
		}
		index, err = up(h, "a0", a)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = New().InNamespace(there, func(h Handle) (err error) {
		if _, err := up(h, "b0", b); err != nil {
			return err
		}
		server, err = net.Listen("tcp4", "10.1.0.2:80")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	err = New().InNamespace(here, func(Handle) error {
		if err := replaceQueue(index); err != nil {
			return err
		}
		conn, err := net.DialTimeout("tcp4", "10.1.0.2:80", 900*time.Millisecond) // a lost packet is repeated after 1 s
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNamespaceOfOtherUsers(t *testing.T) {
	if err := (&userns.Support{Dir: t.TempDir()}).Check(); err != nil {
		t.Skip("needs user namespaces: ", err)
	}
	k, path, owner := New(), filepath.Join(t.TempDir(), "ns"), filepath.Join(t.TempDir(), "owner")
	for range 2 {
		if err := k.CreateOwnedNamespace(path, userns.Range{HostID: userns.First, Length: userns.Length}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := errors.Join(k.DeleteNamespace(path), userns.Unbind(owner)); err != nil {
			t.Error(err)
		}
	})
	if err := userns.OwnerOf(path, owner); err != nil {
		t.Error(err)
	}
	err := k.InNamespace(path, func(h Handle) error { return h.SetSysctl("net/ipv4/ip_forward", "1") })
	if err != nil {
		t.Errorf("the machine's root cannot change it: %v", err)
	}
}
