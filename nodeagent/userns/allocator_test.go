package userns

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func mustAcquire(t *testing.T, a *Allocator, uid types.UID) Range {
	t.Helper()
	r, err := a.Acquire(uid)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRangesOutliveTheAgentAndEndWithTheFolder(t *testing.T) {
	dir := t.TempDir()
	a := NewAllocator(dir)
	one, two := mustAcquire(t, a, "one"), mustAcquire(t, a, "two")
	if one == two || one != mustAcquire(t, a, "one") || one.HostID < First || one.Length != Length {
		t.Fatalf("one has %+v, two %+v", one, two)
	}
	a = NewAllocator(dir) // another process
	if three := mustAcquire(t, a, "three"); three == one || three == two {
		t.Errorf("three has %+v, which is another's", three)
	}
	if err := os.RemoveAll(filepath.Join(dir, "one")); err != nil {
		t.Fatal(err)
	}
	a.Release("one")
	a.Release("one")
	if four := mustAcquire(t, a, "four"); four != one {
		t.Errorf("four has %+v, want what one had: %+v", four, one)
	}
}

func TestUnusableFiles(t *testing.T) {
	good := `{"hostID":65536,"length":65536}`
	for name, tc := range map[string]struct{ a, b, want string }{
		"no JSON":               {a: "x", want: "invalid user namespace mappings file"},
		"another length":        {a: `{"hostID":65536,"length":1}`, want: "wrong user namespace length 1"},
		"the machine's own IDs": {a: `{"hostID":0,"length":65536}`, want: "wrong user namespace offset specified 0"},
		"an odd offset":         {a: `{"hostID":65537,"length":65536}`, want: "wrong user namespace offset specified 65537"},
		"beyond the last":       {a: `{"hostID":2147483648,"length":65536}`, want: "wrong user namespace offset specified 2147483648"},
		"one range for two":     {a: good, b: good, want: "already taken by"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for pod, content := range map[string]string{"a": tc.a, "b": tc.b} {
				if content == "" {
					continue
				}
				if err := os.MkdirAll(filepath.Join(dir, pod), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, pod, fileName), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := NewAllocator(dir).Acquire("c"); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Acquire = %v, want %q", err, tc.want)
			}
		})
	}
}

func TestExhausted(t *testing.T) {
	a := NewAllocator(t.TempDir())
	mustAcquire(t, a, "first")
	for i := range uint32(ranges) {
		a.used[First+i*Length] = "somebody"
	}
	if _, err := a.Acquire("last"); !errors.Is(err, ErrExhausted) {
		t.Errorf("Acquire = %v, want %v", err, ErrExhausted)
	}
}

func TestIDs(t *testing.T) {
	r := Range{HostID: 131072, Length: Length}
	for id, want := range map[uint32]bool{131071: false, 131072: true, 196607: true, 196608: false, 0: false} {
		if got := r.Contains(id); got != want {
			t.Errorf("Contains(%d) = %v", id, got)
		}
	}
	if got, ok := r.Host(7); got != 131079 || !ok {
		t.Errorf("Host(7) = %d, %v", got, ok)
	}
	if _, ok := r.Host(Length); ok {
		t.Error("Host gives an ID beyond the range")
	}
}
