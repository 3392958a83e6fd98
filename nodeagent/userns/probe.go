package userns

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// probeFolder is made in Support.Dir while the kernel is asked.
const probeFolder = "userns-probe"

// Support tells whether this machine can give Pods user namespaces.
type Support struct {
	// Dir is a folder of the file system that holds the Pods' volumes, for nobody else to
	// use the name userns-probe in.
	Dir string

	mu    sync.Mutex
	works bool
}

// Check makes a user namespace, and shows it a folder of Dir and one of a tmpfs, which
// Secrets are on. Its error says what the kernel refused. Success is remembered.
func (s *Support) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.works {
		return nil
	}
	dir := filepath.Join(s.Dir, probeFolder)
	if err := UnbindAll(dir); err != nil { // of an agent that died in the middle of it
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("look whether user namespaces work: %w", err)
	}
	err := probe(dir)
	if clearErr := UnbindAll(dir); err == nil {
		err = clearErr
	}
	s.works = err == nil
	return err
}

func probe(dir string) error {
	folder, memory := filepath.Join(dir, "folder"), filepath.Join(dir, "memory")
	for _, path := range []string{folder, memory} {
		if err := os.Mkdir(path, 0o700); err != nil {
			return fmt.Errorf("look whether user namespaces work: %w", err)
		}
	}
	if err := unix.Mount("tmpfs", memory, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k"); err != nil {
		return fmt.Errorf("look whether user namespaces work: mount a tmpfs: %w", err)
	}
	err := In(Range{HostID: First, Length: Length}, 0, func(ns string) error {
		for _, source := range []string{folder, memory} {
			target := source + "-mapped"
			if err := Bind(source, target, ns+"/user"); err != nil {
				return err
			}
			if err := Unbind(target); err != nil {
				return err
			}
		}
		return nil
	})
	if unmountErr := unix.Unmount(memory, unix.MNT_DETACH); err == nil && unmountErr != nil {
		err = fmt.Errorf("look whether user namespaces work: unmount a tmpfs: %w", unmountErr)
	}
	return err
}
