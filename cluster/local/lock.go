package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockPeriod is how often a command that waits for another looks again.
const lockPeriod = 100 * time.Millisecond

// lockCommand lets one up or down at a time work on a data directory, which it
// creates when needed.
func lockCommand(ctx context.Context, l Layout, say func(string, ...any)) (unlock func(), err error) {
	tick := time.NewTicker(lockPeriod)
	defer tick.Stop()
	for told := false; ; {
		unlock, err := tryLock(l)
		if unlock != nil || err != nil {
			return unlock, err
		}
		if !told {
			say("Waiting for another keelson command on %s to end", l.Data)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another keelson command on %s: %w", l.Data, ctx.Err())
		case <-tick.C:
		}
	}
}

// tryLock returns nil when another command has the lock.
func tryLock(l Layout) (unlock func(), err error) {
	if err := os.MkdirAll(l.Data, 0o755); err != nil {
		return nil, fmt.Errorf("--data-dir: create the data directory: %w", err)
	}
	f, err := os.OpenFile(l.commandLock(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--data-dir: open the lock of the data directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, f.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	// A down that ended meanwhile removed its lock: who locks that file has nothing.
	current, err := sameFile(f)
	if err != nil || !current {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // closing drops the lock
}

// sameFile says whether the name still leads to the open file.
func sameFile(f *os.File) (bool, error) {
	opened, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(opened, named), err
}
