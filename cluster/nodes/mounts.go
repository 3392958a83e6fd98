package nodes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Folders and files in a node's Data.
func logOf(n Node) string { return filepath.Join(n.Data, "log") }
func libOf(n Node) string { return filepath.Join(n.Data, "lib") }
func etcOf(n Node) string { return filepath.Join(n.Data, "etc") }
func fileOf(n Node, name string) string {
	return filepath.Join(etcOf(n), name)
}

const (
	resolvConf = "/etc/resolv.conf"
	// resolvedConf is where systemd-resolved writes the servers behind its own.
	resolvedConf = "/run/systemd/resolve/resolv.conf"
)

// prepareFolders makes what a node has of its own, and where it is mounted.
func (m *Machine) prepareFolders(n Node) error {
	for _, dir := range []string{logOf(n), libOf(n), etcOf(n), LibDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	resolv, err := resolvConfFor(os.ReadFile)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"hostname": n.Name + "\n", "hosts": m.hostsFile(n), "resolv.conf": resolv,
	} {
		if err := os.WriteFile(fileOf(n, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) hostsFile(n Node) string {
	text := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	for _, a := range m.options.addresses(n.Address) {
		text += fmt.Sprintf("%s\t%s\n", a, n.Name)
	}
	return text
}

// resolvConfFor is this machine's list of name servers without those on its loopback
// interface, which no node reaches.
func resolvConfFor(read func(string) ([]byte, error)) (string, error) {
	text, err := read(resolvConf)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read this machine's name servers: %w", err)
	}
	usable, dropped := withoutLoopback(text)
	if dropped && !strings.Contains(usable, "nameserver") {
		if behind, err := read(resolvedConf); err == nil {
			usable, _ = withoutLoopback(behind)
		}
	}
	return usable, nil
}

func withoutLoopback(text []byte) (usable string, dropped bool) {
	var out strings.Builder
	for line := range bytes.Lines(text) {
		if fields := strings.Fields(string(line)); len(fields) > 1 && fields[0] == "nameserver" {
			if a, err := netip.ParseAddr(fields[1]); err == nil && a.IsLoopback() {
				dropped = true
				continue
			}
		}
		out.Write(line)
	}
	return out.String(), dropped
}

// enterNew gives the calling thread new namespaces and makes them the node's.
func (m *Machine) enterNew(n Node) error {
	flags := 0
	for _, kind := range kinds {
		flags |= kind.flag
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if err := unix.Sethostname([]byte(n.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	// What is unmounted here later is unmounted there, and never the other way round;
	// inside, mounts are passed on to containers that ask for it, as on any machine.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("part its mounts from this machine's: %w", err)
	}
	// The pins of others would hold their namespaces.
	if err := unix.Unmount(m.options.Dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", m.options.Dir, err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts with containers: %w", err)
	}
	return mountOwn(n)
}

// mountOwn covers this machine's folders with the node's.
func mountOwn(n Node) error {
	resolv, err := filepath.EvalSymlinks(resolvConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("find the list of name servers: %w", err)
	}
	binds := []bind{{logOf(n), LogDir, -1}, {libOf(n), LibDir, -1}}
	for _, name := range []string{"hostname", "hosts"} {
		if target := "/etc/" + name; exists(target) {
			binds = append(binds, bind{fileOf(n, name), target, -1})
		}
	}
	if resolv != "" {
		binds = append(binds, bind{fileOf(n, "resolv.conf"), resolv, -1})
	}
	// All are taken hold of before the first is covered.
	for i := range binds {
		if binds[i].tree, err = unix.OpenTree(unix.AT_FDCWD, binds[i].from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC); err != nil {
			return fmt.Errorf("mount %s: %w", binds[i].from, err)
		}
		defer unix.Close(binds[i].tree)
	}
	if err := unix.Mount("tmpfs", RunDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount %s: %w", RunDir, err)
	}
	for _, b := range binds {
		if err := b.attach(); err != nil {
			return err
		}
	}
	return nil
}

// bind is a folder or file to be seen elsewhere, too.
type bind struct {
	from, to string
	tree     int
}

func (b bind) attach() error {
	if strings.HasPrefix(b.to, RunDir+"/") { // a link led into what is empty now
		if err := os.MkdirAll(filepath.Dir(b.to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(b.to, nil, 0o644); err != nil {
			return err
		}
	}
	if err := unix.MoveMount(b.tree, "", unix.AT_FDCWD, b.to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s at %s: %w", b.from, b.to, err)
	}
	// A mount that came as a clone belongs to no group yet.
	if err := unix.Mount("", b.to, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share %s: %w", b.to, err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
