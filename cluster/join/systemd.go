package join

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/cluster/internal/files"
	"github.com/keelson-dev/keelson/cluster/internal/process"
)

// unitName is the service of a joined machine, of which a machine has one at most.
const unitName = "keelson-node.service"

// unitMark begins the line by which a unit is known to be ours, and whose.
const unitMark = "# Written by keelson join --systemd for "

// systemd is the service manager of this machine.
type systemd struct {
	// booted is a folder that is there while systemd runs; see sd_booted(3).
	booted string
	// units is the administrator's folder of units.
	units string
}

func machineSystemd() systemd {
	return systemd{booted: "/run/systemd/system", units: "/etc/systemd/system"}
}

func (m systemd) unitFile() string { return filepath.Join(m.units, unitName) }

// wantsLink is what enabling makes.
func (m systemd) wantsLink() string {
	return filepath.Join(m.units, "multi-user.target.wants", unitName)
}

func (m systemd) runs() bool {
	_, err := os.Stat(m.booted)
	return err == nil
}

// check refuses what cannot work, before anything is changed or sent.
func (m systemd) check(l layout, self string) error {
	if strings.ContainsAny(self, `"'\`) {
		return fmt.Errorf("--systemd: systemd starts no program whose path has quotation marks or backslashes: move %s", self)
	}
	if !m.runs() {
		return fmt.Errorf("--systemd: systemd does not run on this machine (there is no %s): leave the flag out, and let what starts this machine's services run 'keelson join --data-dir %s' at boot", m.booted, l.data)
	}
	if _, err := exec.LookPath("systemctl"); err != nil {
		return fmt.Errorf("--systemd: systemd runs, but systemctl cannot be found: install it or correct PATH (%w)", err)
	}
	ours, err := m.ours(l)
	if err == nil && !ours {
		err = fmt.Errorf("--systemd: %s is there already, and not for %s: move it out of the way", m.unitFile(), l.data)
	}
	return err
}

// ours says whether the unit may be replaced: it is that of the folder, or not there.
func (m systemd) ours(l layout) (bool, error) {
	text, err := os.ReadFile(m.unitFile())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the unit of another start: %w", err)
	}
	return strings.HasPrefix(string(text), unitMark+l.data+"\n"), nil
}

// renderUnit is the service that keeps the node up. Stopping it ends the agent and leaves
// containers and their containerd alone, as when an agent is updated.
func renderUnit(l layout, self string) string {
	return unitMark + l.data + `
# 'keelson leave' removes it. Put changes into a drop-in: systemctl edit ` + unitName + `
[Unit]
Description=Keelson node
Wants=network-online.target
After=network-online.target containerd.service

[Service]
Type=notify
EnvironmentFile=-/etc/default/keelson-node
ExecStart=` + quoteProgram(self) + ` supervise-node ` + quoteUnit("--data-dir="+l.data) + `
Restart=always
RestartSec=5
KillMode=process
Delegate=yes
OOMScoreAdjust=-999
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=120
TimeoutStopSec=90

[Install]
WantedBy=multi-user.target
`
}

// quoteUnit writes one word of a command line for systemd, which knows variables and
// specifiers in it.
func quoteUnit(word string) string {
	return strings.NewReplacer("%", "%%", "$", "$$").Replace(strconv.Quote(word))
}

// quoteProgram writes the path of the program, in which systemd knows specifiers only.
func quoteProgram(path string) string {
	return strings.ReplaceAll(strconv.Quote(path), "%", "%%")
}

// install makes the service of the folder, enables and starts it. It may be done again at
// any time; what is right already stays.
func (m systemd) install(ctx context.Context, l layout, self string) error {
	unit := renderUnit(l, self)
	have, err := os.ReadFile(m.unitFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the unit of an earlier start: %w", err)
	}
	if string(have) != unit {
		if err := os.MkdirAll(m.units, 0o755); err != nil {
			return fmt.Errorf("create the folder of units: %w", err)
		}
		if err := files.Replace(m.unitFile(), []byte(unit), 0o644); err != nil {
			return err
		}
	}
	// Also where the unit was there: whoever wrote it may have died before this.
	for _, args := range [][]string{{"daemon-reload"}, {"enable", unitName}, {"start", unitName}} {
		if _, err := systemctl(ctx, args...); err != nil {
			return fmt.Errorf("%w; see 'journalctl -u %s'", err, unitName)
		}
	}
	return nil
}

// main is the process of the service, which runs.
func (m systemd) main(ctx context.Context) (process.Identity, error) {
	text, err := systemctl(ctx, "show", "--property=MainPID", "--value", unitName)
	if err != nil {
		return process.Identity{}, err
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		return process.Identity{}, fmt.Errorf("systemctl says %q for the process of %s: %w", text, unitName, err)
	}
	id, err := process.Of(pid)
	if err != nil {
		return id, fmt.Errorf("%s does not run: see 'journalctl -u %s' (%w)", unitName, unitName, err)
	}
	return id, nil
}

// remove stops, disables and removes the service of the folder, if there is one. It may
// have died before at any instruction.
func (m systemd) remove(ctx context.Context, l layout) error {
	ours, err := m.ours(l)
	if err != nil || !ours {
		return err
	}
	present := true
	if _, err := os.Lstat(m.unitFile()); err != nil {
		present = false
	}
	if !present && !m.linked() {
		return nil
	}
	if present && m.runs() {
		if _, err := systemctl(ctx, "disable", "--now", unitName); err != nil {
			return err
		}
	}
	if err := removeAll(m.wantsLink(), m.unitFile()); err != nil {
		return err
	}
	if !m.runs() {
		return nil
	}
	_, err = systemctl(ctx, "daemon-reload")
	return err
}

// linked says that the unit is enabled, whether it is there or not.
func (m systemd) linked() bool {
	target, err := os.Readlink(m.wantsLink())
	return err == nil && target == m.unitFile()
}

// systemctl runs it and returns what it says.
func systemctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, lastLines(out, 5))
	}
	return strings.TrimSpace(string(out)), nil
}
