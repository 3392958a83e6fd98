// Package systemd lets systemd keep a supervisor up: it writes the unit of a service into the
// administrator's folder, enables and starts it, and takes all of that back.
//
// It never touches a unit that it did not write for the same folder, and never stops another
// service. Every step may be done again: whoever did it before may have died in the middle.
package systemd

import (
	"bytes"
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

// Manager is the service manager of this machine.
type Manager struct {
	// Booted is a folder that is there while systemd runs; see sd_booted(3).
	Booted string
	// Units is the administrator's folder of units.
	Units string
}

// Machine returns that of a machine as distributions make it.
func Machine() Manager {
	return Manager{Booted: "/run/systemd/system", Units: "/etc/systemd/system"}
}

// Unit is a service that keeps a supervisor up.
type Unit struct {
	// Name is the unit's, such as keelson-node.service, of which a machine has one at most.
	Name, Description string
	// Folder is the data directory that the service is for, by which a unit is known to be
	// ours, and whose.
	Folder string
	// Writer and Remover are the commands that make the service and take it away.
	Writer, Remover string
	// Program runs with Args and says when it is ready, by sd_notify(3).
	Program string
	Args    []string
	// Environment are variables, NAME=VALUE; /etc/default/NAME may say others.
	Environment []string
	// StopSeconds is how long it may take to end.
	StopSeconds int
}

// mark is the line by which a unit is known to be ours, and whose.
func (u Unit) mark() string { return "# Written by " + u.Writer + " for " + u.Folder + "\n" }

// Render is the unit's file. Stopping the service ends the supervisor and what it ends;
// containers and their containerd are left alone, as when an agent is updated.
func (u Unit) Render() string {
	var environment strings.Builder
	for _, variable := range u.Environment {
		environment.WriteString("Environment=" + strings.ReplaceAll(strconv.Quote(variable), "%", "%%") + "\n")
	}
	command := []string{quoteProgram(u.Program)}
	for _, arg := range u.Args {
		command = append(command, quoteWord(arg))
	}
	return u.mark() + `# '` + u.Remover + `' removes it. Put changes into a drop-in: systemctl edit ` + u.Name + `
[Unit]
Description=` + u.Description + `
Wants=network-online.target
After=network-online.target containerd.service

[Service]
Type=notify
` + environment.String() + `EnvironmentFile=-/etc/default/` + strings.TrimSuffix(u.Name, ".service") + `
ExecStart=` + strings.Join(command, " ") + `
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
TimeoutStopSec=` + strconv.Itoa(u.StopSeconds) + `

[Install]
WantedBy=multi-user.target
`
}

// quoteWord writes one word of a command line for systemd, which knows variables and
// specifiers in it.
func quoteWord(word string) string {
	return strings.NewReplacer("%", "%%", "$", "$$").Replace(strconv.Quote(word))
}

// quoteProgram writes the path of the program, in which systemd knows specifiers only.
func quoteProgram(path string) string {
	return strings.ReplaceAll(strconv.Quote(path), "%", "%%")
}

// File is where the unit of a name lies.
func (m Manager) File(name string) string { return filepath.Join(m.Units, name) }

// wantsLink is what enabling makes.
func (m Manager) wantsLink(name string) string {
	return filepath.Join(m.Units, "multi-user.target.wants", name)
}

func (m Manager) runs() bool {
	_, err := os.Stat(m.Booted)
	return err == nil
}

// Check refuses what cannot work, before anything is changed. instead is the command that a
// machine without systemd has to run at boot.
func (m Manager) Check(u Unit, instead string) error {
	if strings.ContainsAny(u.Program, `"'\`) {
		return fmt.Errorf("--systemd: systemd starts no program whose path has quotation marks or backslashes: move %s", u.Program)
	}
	if !m.runs() {
		return fmt.Errorf("--systemd: systemd does not run on this machine (there is no %s): leave the flag out, and let what starts this machine's services run '%s' at boot", m.Booted, instead)
	}
	if _, err := exec.LookPath("systemctl"); err != nil {
		return fmt.Errorf("--systemd: systemd runs, but systemctl cannot be found: install it or correct PATH (%w)", err)
	}
	ours, err := m.ours(u)
	if err == nil && !ours {
		err = fmt.Errorf("--systemd: %s is there already, and not for %s: move it out of the way", m.File(u.Name), u.Folder)
	}
	return err
}

// ours says whether the unit may be replaced: it is that of the folder, or not there.
func (m Manager) ours(u Unit) (bool, error) {
	text, err := os.ReadFile(m.File(u.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the unit of another start: %w", err)
	}
	return strings.HasPrefix(string(text), u.mark()), nil
}

// Install makes the service, enables and starts it, and returns when it says that it is
// ready. It may be done again at any time; what is right already stays.
func (m Manager) Install(ctx context.Context, u Unit) error {
	unit := u.Render()
	have, err := os.ReadFile(m.File(u.Name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the unit of an earlier start: %w", err)
	}
	if string(have) != unit {
		if err := os.MkdirAll(m.Units, 0o755); err != nil {
			return fmt.Errorf("create the folder of units: %w", err)
		}
		if err := files.Replace(m.File(u.Name), []byte(unit), 0o644); err != nil {
			return err
		}
	}
	// Also where the unit was there: whoever wrote it may have died before this.
	for _, args := range [][]string{{"daemon-reload"}, {"enable", u.Name}, {"start", u.Name}} {
		if _, err := systemctl(ctx, args...); err != nil {
			return fmt.Errorf("%w; see 'journalctl -u %s'", err, u.Name)
		}
	}
	return nil
}

// Main is the process of the service, which runs.
func (m Manager) Main(ctx context.Context, u Unit) (process.Identity, error) {
	text, err := systemctl(ctx, "show", "--property=MainPID", "--value", u.Name)
	if err != nil {
		return process.Identity{}, err
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		return process.Identity{}, fmt.Errorf("systemctl says %q for the process of %s: %w", text, u.Name, err)
	}
	id, err := process.Of(pid)
	if err != nil {
		return id, fmt.Errorf("%s does not run: see 'journalctl -u %s' (%w)", u.Name, u.Name, err)
	}
	return id, nil
}

// Remove stops, disables and removes the service of the folder, if there is one. It may
// have died before at any instruction.
func (m Manager) Remove(ctx context.Context, u Unit) error {
	ours, err := m.ours(u)
	if err != nil || !ours {
		return err
	}
	present := true
	if _, err := os.Lstat(m.File(u.Name)); err != nil {
		present = false
	}
	if !present && !m.linked(u) {
		return nil
	}
	if present && m.runs() {
		if _, err := systemctl(ctx, "disable", "--now", u.Name); err != nil {
			return err
		}
	}
	for _, path := range []string{m.wantsLink(u.Name), m.File(u.Name)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the service: %w", err)
		}
	}
	if !m.runs() {
		return nil
	}
	_, err = systemctl(ctx, "daemon-reload")
	return err
}

// Stop ends the service of the folder, if there is one, until somebody starts it again.
func (m Manager) Stop(ctx context.Context, u Unit) error {
	_, err := os.Lstat(m.File(u.Name))
	if errors.Is(err, fs.ErrNotExist) || !m.runs() {
		return nil
	}
	ours, err := m.ours(u)
	if err != nil || !ours {
		return err
	}
	_, err = systemctl(ctx, "stop", u.Name)
	return err
}

// linked says that the unit is enabled, whether it is there or not.
func (m Manager) linked(u Unit) bool {
	target, err := os.Readlink(m.wantsLink(u.Name))
	return err == nil && target == m.File(u.Name)
}

// linesShown is how much of what systemctl says an error shows.
const linesShown = 5

// systemctl runs it and returns what it says.
func systemctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		return "", fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, bytes.Join(lines[max(0, len(lines)-linesShown):], []byte("\n")))
	}
	return strings.TrimSpace(string(out)), nil
}
