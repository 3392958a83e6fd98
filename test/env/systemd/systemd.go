// Package systemd stands in for systemd on a throw-away machine, which has none: a systemctl
// that starts and stops a service as its unit says, and an empty folder of units. It restarts
// nothing by itself and waits for no notification: tests do.
package systemd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// Units hides the folder of the machine on which the test runs.
	Units = "/etc/systemd/system"
	// Booted is there where systemd runs.
	Booted = "/run/systemd/system"
	// Journal is what the services print.
	Journal = "/run/systemd/journal"
)

const systemctl = `#!/bin/sh
for name; do :; done
units=` + Units + `
link=$units/multi-user.target.wants/$name
pid=/run/systemd/$name.pid
alive() { [ -f "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; }
stop() { alive && kill "$(cat "$pid")"; while alive; do sleep 0.1; done; rm -f "$pid"; }
case "$1" in
daemon-reload) ;;
enable) mkdir -p "$(dirname "$link")" && ln -sf "$units/$name" "$link" ;;
disable) stop; rm -f "$link" ;;
stop) stop ;;
start)
	alive && exit 0
	command=$(sed -n 's/^ExecStart=//p' "$units/$name")
	[ -n "$command" ] || exit 5
	eval "exec setsid $command" </dev/null >` + Journal + ` 2>&1 &
	echo $! > "$pid" ;;
show) cat "$pid" ;;
*) echo "unknown: $*" >&2; exit 1 ;;
esac
`

// Install makes systemctl in a folder that it returns, for PATH, and hides the units of the
// machine on which the test runs until remove is called. Whoever wants systemd to run makes
// Booted.
func Install(parent string) (bin string, remove func() error, err error) {
	bin = filepath.Join(parent, "systemd-bin")
	_, statErr := os.Stat(Units)
	made := errors.Is(statErr, os.ErrNotExist)
	if err := errors.Join(os.MkdirAll(Units, 0o755), os.Mkdir(bin, 0o755)); err != nil {
		return "", nil, fmt.Errorf("make the folders of a systemd: %w", err)
	}
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(systemctl), 0o755); err != nil {
		return "", nil, fmt.Errorf("make systemctl: %w", err)
	}
	if err := unix.Mount("tmpfs", Units, "tmpfs", 0, ""); err != nil {
		return "", nil, fmt.Errorf("hide the machine's units: %w", err)
	}
	return bin, func() error {
		err := unix.Unmount(Units, unix.MNT_DETACH)
		if made {
			err = errors.Join(err, os.Remove(Units))
		}
		return err
	}, nil
}

// Left lists what there is of units.
func Left() ([]string, error) {
	deeper, err := filepath.Glob(filepath.Join(Units, "*/*"))
	if err != nil {
		return nil, err
	}
	left, err := filepath.Glob(filepath.Join(Units, "*.service"))
	return append(left, deeper...), err
}
