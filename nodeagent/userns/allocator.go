package userns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/state"
)

// fileName is the file of a range in the folder of its Pod.
const fileName = "userns"

// Allocator gives ranges to Pods.
type Allocator struct {
	podsDir string

	mu sync.Mutex
	// held is nil until the folders have been read.
	held map[types.UID]Range
	used map[uint32]types.UID // by Range.HostID
}

// NewAllocator returns one that keeps its files in podsDir, which has a folder for each
// Pod, named by its UID. It reads them when it is first asked.
func NewAllocator(podsDir string) *Allocator { return &Allocator{podsDir: podsDir} }

// Acquire returns the Pod's range, a new one when it has none. The folder of the Pod is
// made when it is not there. ErrExhausted when no range is free.
func (a *Allocator) Acquire(uid types.UID) (Range, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.load(); err != nil {
		return Range{}, err
	}
	if r, ok := a.held[uid]; ok {
		return r, nil
	}
	r, err := a.free()
	if err != nil {
		return Range{}, err
	}
	if err := write(filepath.Join(a.podsDir, string(uid)), r); err != nil {
		return Range{}, fmt.Errorf("create user namespace: %w", err)
	}
	a.hold(uid, r)
	return r, nil
}

// Release makes the range of a Pod free; it succeeds when there is none. Nothing of the
// Pod may run or be mounted. Its file goes with the folder: what dies before that is
// swept with the folder, and holds the range until then.
func (a *Allocator) Release(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, ok := a.held[uid]; ok {
		delete(a.held, uid)
		delete(a.used, r.HostID)
	}
}

func (a *Allocator) hold(uid types.UID, r Range) {
	a.held[uid] = r
	a.used[r.HostID] = uid
}

func (a *Allocator) free() (Range, error) {
	for i := range uint32(ranges) {
		if r := (Range{HostID: First + i*Length, Length: Length}); a.used[r.HostID] == "" {
			return r, nil
		}
	}
	return Range{}, ErrExhausted
}

// load reads the files of all Pods, once. One that cannot be understood stops it: its
// range could be given twice.
func (a *Allocator) load() error {
	if a.held != nil {
		return nil
	}
	entries, err := os.ReadDir(a.podsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the user namespaces of Pods: %w", err)
	}
	read := &Allocator{held: map[types.UID]Range{}, used: map[uint32]types.UID{}}
	for _, entry := range entries {
		uid := types.UID(entry.Name())
		r, err := readRange(filepath.Join(a.podsDir, entry.Name(), fileName))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the user namespace of Pod %s: %w", uid, err)
		}
		if other, taken := read.used[r.HostID]; taken {
			return fmt.Errorf("reading the user namespace of Pod %s: range picked for pod %q already taken by %q", uid, uid, other)
		}
		read.hold(uid, r)
	}
	a.held, a.used = read.held, read.used
	return nil
}

func readRange(path string) (Range, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Range{}, err
	}
	var r Range
	if err := json.Unmarshal(data, &r); err != nil {
		return Range{}, fmt.Errorf("invalid user namespace mappings file %s: %w", path, err)
	}
	if err := r.validate(); err != nil {
		return Range{}, fmt.Errorf("invalid user namespace mappings file %s: %w", path, err)
	}
	return r, nil
}

func write(dir string, r Range) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return state.WriteFile(filepath.Join(dir, fileName), data, 0o600)
}
