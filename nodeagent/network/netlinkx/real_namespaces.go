package netlinkx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/namespaces"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

func (kernel) CreateNamespace(path string) error {
	bound, err := namespaces.Bound(path)
	if err != nil || bound {
		return wrap(err, "network namespace %s", path)
	}
	return namespaces.OnOwnThread(func() error {
		if err := retryErr(func() error { return unix.Unshare(unix.CLONE_NEWNET) }); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		return namespaces.Bind("/proc/thread-self/ns/net", path)
	})
}

func (kernel) CreateOwnedNamespace(path string, users userns.Range) error {
	bound, err := namespaces.Bound(path)
	if err != nil || bound {
		return wrap(err, "network namespace %s", path)
	}
	err = userns.In(users, unix.CLONE_NEWNET, func(dir string) error { return namespaces.Bind(dir+"/net", path) })
	if err != nil {
		return fmt.Errorf("making a network namespace with user IDs of its own: %w", err)
	}
	return nil
}

func (kernel) DeleteNamespace(path string) error { return namespaces.Unbind(path) }

func (kernel) ListNamespaces(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing network namespaces: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

func (kernel) InNamespace(path string, f func(Handle) error) error {
	bound, err := namespaces.Bound(path)
	if err != nil {
		return wrap(err, "network namespace %s", path)
	}
	if !bound {
		return fmt.Errorf("network namespace %s: %w", path, ErrNotFound)
	}
	return namespaces.OnOwnThread(func() error {
		if err := namespaces.Enter(path, unix.CLONE_NEWNET); err != nil {
			return wrap(err, "network namespace %s", path)
		}
		return f(handle{})
	})
}
