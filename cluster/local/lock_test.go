package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestOneCommandAtATime(t *testing.T) {
	l := Layout{Data: filepath.Join(t.TempDir(), "data")}
	unlock, err := lockCommand(t.Context(), l, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	interrupted, interrupt := context.WithCancel(t.Context())
	told := 0
	_, err = lockCommand(interrupted, l, func(string, ...any) { told++; interrupt() })
	if !errors.Is(err, context.Canceled) || told != 1 {
		t.Errorf("the second command: %v, told %d times", err, told)
	}

	// As down does: the lock's own file goes, and with it what others wait for.
	if err := os.RemoveAll(l.Data); err != nil {
		t.Fatal(err)
	}
	second, err := lockCommand(t.Context(), l, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if third, err := tryLock(l); third != nil || err != nil {
		t.Errorf("a third command while the second works: %v", err)
	}
	second()
	third, err := tryLock(l)
	if err != nil || third == nil {
		t.Fatalf("after the second: %v", err)
	}
	third()
}
