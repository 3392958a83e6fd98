package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/internal/ranges"
)

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	small = ranges.MustParse("10.244.0.0/29") // .2 to .6
)

func open(t *testing.T, dir string) *IPAM {
	t.Helper()
	m, foreign, problems, err := Open(dir, small, clocktesting.NewFakePassiveClock(start))
	if err != nil || len(foreign)+len(problems) > 0 {
		t.Fatalf("Open: foreign %v, problems %v, %v", foreign, problems, err)
	}
	return m
}

func acquire(t *testing.T, m *IPAM, uid types.UID) string {
	t.Helper()
	l, err := m.Acquire(Lease{UID: uid, Namespace: "ns", Name: "n-" + string(uid)})
	if err != nil {
		t.Fatal(err)
	}
	return l.IP.String()
}

func wantIP(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got address %s, want %s", got, want)
	}
}

func TestAddressesRotate(t *testing.T) {
	m := open(t, t.TempDir())
	wantIP(t, acquire(t, m, "a"), "10.244.0.2")
	wantIP(t, acquire(t, m, "a"), "10.244.0.2")
	if err := m.Release("a"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.244.0.3", "10.244.0.4", "10.244.0.5", "10.244.0.6", "10.244.0.2"} {
		wantIP(t, acquire(t, m, types.UID("pod-"+want)), want)
	}
	if _, err := m.Acquire(Lease{UID: "one-too-many"}); !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "all 5 addresses") {
		t.Errorf("got %v, want that all 5 are leased", err)
	}
	if err := m.Release("pod-10.244.0.4"); err != nil {
		t.Fatal(err)
	}
	wantIP(t, acquire(t, m, "again"), "10.244.0.4")
}

func TestLeasesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	acquire(t, m, "a")
	acquire(t, m, "b")
	if err := m.Release("a"); err != nil {
		t.Fatal(err)
	}

	m = open(t, dir)
	l, ok := m.Lookup("b")
	want := Lease{UID: "b", IP: netip.MustParseAddr("10.244.0.3"), Namespace: "ns", Name: "n-b", AcquiredAt: start}
	if !ok || l != want {
		t.Errorf("got %+v, %v; want %+v", l, ok, want)
	}
	if _, ok := m.Lookup("a"); ok {
		t.Error("the released lease came back")
	}
	wantIP(t, acquire(t, m, "c"), "10.244.0.4") // not the one that was just freed
}

func TestBadFilesAreSetAsideAndNamed(t *testing.T) {
	good := `{"uid":"a","ip":"10.244.0.2","acquiredAt":"2026-01-02T03:04:05Z"}`
	for name, tc := range map[string]struct{ file, content, want string }{
		"not JSON":                     {"10.244.0.3.json", "{", "not a lease"},
		"empty, as after a power cut":  {"10.244.0.3.json", "", "not a lease"},
		"the address of another file":  {"10.244.0.3.json", good, "says address 10.244.0.2"},
		"no UID":                       {"10.244.0.3.json", `{"ip":"10.244.0.3"}`, "uid is missing"},
		"a name that is no address":    {"hello.json", good, "no address"},
		"a second lease of one Pod":    {"10.244.0.3.json", `{"uid":"a","ip":"10.244.0.3"}`, "pod a has the lease of 10.244.0.2 too"},
		"an address of another family": {"fd00::1.json", `{"uid":"b","ip":"fd00::1"}`, "not an IPv4 address"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range map[string]string{"10.244.0.2.json": good, tc.file: tc.content} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m, _, problems, err := Open(dir, small, clocktesting.NewFakePassiveClock(start))
			if err != nil || len(problems) != 1 || !strings.Contains(problems[0].Error(), tc.want) || !strings.Contains(problems[0].Error(), tc.file) {
				t.Fatalf("problems %v, %v; want one that names %s and says %q", problems, err, tc.file, tc.want)
			}
			if kept, err := os.ReadFile(filepath.Join(dir, tc.file+".corrupt")); err != nil || string(kept) != tc.content {
				t.Errorf("set aside: %q, %v; want the content for whoever looks", kept, err)
			}
			if l, ok := m.Lookup("a"); !ok || l.IP != netip.MustParseAddr("10.244.0.2") {
				t.Errorf("the good lease beside it: %v, %v", l, ok)
			}
			open(t, dir) // and the next start has no complaint
		})
	}
}

func TestForeignLeasesAreReportedAndKeptUntilDiscarded(t *testing.T) {
	dir := t.TempDir()
	acquire(t, open(t, dir), "a")
	other := ranges.MustParse("10.244.8.0/24")
	for range 2 {
		m, foreign, problems, err := Open(dir, other, clocktesting.NewFakePassiveClock(start))
		if err != nil || len(problems) > 0 || len(foreign) != 1 || foreign[0].UID != "a" {
			t.Fatalf("foreign %v, problems %v, %v; want the lease of a", foreign, problems, err)
		}
		if _, ok := m.Lookup("a"); ok {
			t.Error("a lease outside the range is in use")
		}
	}
	m, foreign, _, err := Open(dir, other, clocktesting.NewFakePassiveClock(start))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Discard(foreign[0]); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if _, err := os.Stat(filepath.Join(dir, "10.244.0.2.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the discarded lease: %v", err)
	}
}

func TestRestore(t *testing.T) {
	m := open(t, t.TempDir())
	acquire(t, m, "a")
	for name, tc := range map[string]struct {
		lease Lease
		want  string
	}{
		"an address outside the range": {Lease{UID: "b", IP: netip.MustParseAddr("10.244.9.9")}, "outside the Pod range"},
		"the gateway's address":        {Lease{UID: "b", IP: netip.MustParseAddr("10.244.0.1")}, "outside the Pod range"},
		"another Pod's address":        {Lease{UID: "b", IP: netip.MustParseAddr("10.244.0.2")}, "leased to another Pod"},
		"a second address":             {Lease{UID: "a", IP: netip.MustParseAddr("10.244.0.4")}, "the Pod holds 10.244.0.2"},
	} {
		if err := m.Restore(tc.lease); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	if err := m.Restore(Lease{UID: "b", IP: netip.MustParseAddr("10.244.0.3")}); err != nil {
		t.Fatal(err)
	}
	wantIP(t, acquire(t, m, "c"), "10.244.0.4")
}

func TestUnwritableDirectoryLeasesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	m := open(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Acquire(Lease{UID: "a"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if got := m.Leases(); len(got) > 0 {
		t.Errorf("leased %v", got)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	acquire(t, m, "a")
}

func TestConcurrentPodsGetDifferentAddresses(t *testing.T) {
	dir := t.TempDir()
	m, _, _, err := Open(dir, ranges.MustParse("10.244.0.0/24"), clocktesting.NewFakePassiveClock(start))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			uid := types.UID(fmt.Sprint("pod-", i))
			if _, err := m.Acquire(Lease{UID: uid}); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				if err := m.Release(uid); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 25 || len(m.Leases()) != 25 {
		t.Errorf("%d files, %d leases, %v; want 25 of each", len(files), len(m.Leases()), err)
	}
}

func TestRangesThatCannotServe(t *testing.T) {
	for _, cidr := range []string{"10.244.0.0/31", "10.244.0.0/32", "10.244.0.1/24"} {
		if _, _, _, err := Open(t.TempDir(), ranges.List{netip.MustParsePrefix(cidr)}, clocktesting.NewFakePassiveClock(start)); err == nil || !strings.Contains(err.Error(), cidr) {
			t.Errorf("%s: got %v, want it refused", cidr, err)
		}
	}
}

// FuzzParseLease holds that no content crashes the reader, and that what it takes for
// a lease is one of the address in the file's name.
func FuzzParseLease(f *testing.F) {
	f.Add("10.244.0.2", []byte(`{"uid":"a","ip":"10.244.0.2","acquiredAt":"2026-01-02T03:04:05Z"}`))
	f.Add("10.244.0.2", []byte(`{"uid":"a","ip":"::ffff:10.244.0.2"}`))
	f.Add("x", []byte("{"))
	f.Fuzz(func(t *testing.T, base string, data []byte) {
		l, err := parseLease(base, data)
		if err == nil && (l.UID == "" || !l.IP.Is4() || netip.MustParseAddr(base) != l.IP) {
			t.Errorf("took %q in %q for %+v", data, base, l)
		}
	})
}

// FuzzAllocator plays acquire and release against a plain set.
func FuzzAllocator(f *testing.F) {
	f.Add([]byte{0, 1, 2, 128, 3, 4, 5, 6, 129, 7})
	f.Fuzz(func(t *testing.T, moves []byte) {
		a, err := newAllocator(small.V4())
		if err != nil {
			t.Fatal(err)
		}
		held := map[netip.Addr]bool{}
		var newest netip.Addr
		for _, move := range moves {
			if move >= 128 {
				ip := netip.AddrFrom4([4]byte{10, 244, 0, 2 + move%5})
				a.free(ip)
				delete(held, ip)
				continue
			}
			ip, ok := a.take()
			switch {
			case ok != (len(held) < a.size()):
				t.Fatalf("take said %v with %d of %d held", ok, len(held), a.size())
			case ok && (held[ip] || !a.contains(ip)):
				t.Fatalf("gave %s, which is held or outside", ip)
			case ok && ip == newest && len(held) < a.size()-1:
				t.Fatalf("gave %s twice running although others are free", ip)
			}
			if ok {
				held[ip], newest = true, ip
			}
		}
	})
}
