package containerd

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	usualPipeSize = 64 << 10
	// largePipeSize is how much output waits in a pipe while no agent reads it.
	largePipeSize = 256 << 10
	// budgetShare is the part of the user's pipe memory that may go into large pipes.
	budgetShare = 4
)

// pipeBudget bounds the memory promised to large pipes. The kernel counts all pipes of
// a user together and, beyond fs.pipe-user-pages-soft, gives unprivileged processes of
// that user, such as those in containers that run as root, very small ones.
type pipeBudget struct {
	mu          sync.Mutex
	limit, used int
}

// readPipeBudget reads the limit; 0 means that there is none.
func readPipeBudget() int {
	text, err := os.ReadFile("/proc/sys/fs/pipe-user-pages-soft")
	if err != nil {
		return 0
	}
	pages, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pages <= 0 {
		return 0
	}
	return pages * os.Getpagesize() / budgetShare
}

// take reserves n bytes, or nothing when the budget does not hold them.
func (b *pipeBudget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit > 0 && b.used+n > b.limit {
		return false
	}
	b.used += n
	return true
}

// add counts what an earlier process has taken.
func (b *pipeBudget) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
}

func (b *pipeBudget) release(n int) { b.add(-n) }

// enlarge makes a fresh pipe large when the budget allows, and returns what the pipe
// takes of the budget. A pipe of the usual size is enough to work.
func (b *pipeBudget) enlarge(pipe *os.File, fresh bool) (taken int) {
	connection, err := pipe.SyscallConn()
	if err != nil {
		return 0
	}
	_ = connection.Control(func(fd uintptr) { // fails only on a closed file
		size, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0)
		if err != nil {
			return
		}
		if size > usualPipeSize {
			taken = size - usualPipeSize
			b.add(taken)
			return
		}
		if want := largePipeSize - size; fresh && b.take(want) {
			if _, err := unix.FcntlInt(fd, unix.F_SETPIPE_SZ, largePipeSize); err != nil {
				b.release(want)
				return
			}
			taken = want
		}
	})
	return taken
}
