package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/cluster/internal/imagearchive"
	"github.com/keelson-dev/keelson/cluster/internal/process"
	"github.com/keelson-dev/keelson/cluster/supervisor"
)

const (
	supervisorGrace  = 90 * time.Second
	containerdWait   = 30 * time.Second
	cleanupAtMost    = 3 * time.Minute
	containerdPeriod = 50 * time.Millisecond
)

// Down ends the cluster and removes what it made on the machine. It works from
// any state: it does each step whether or not an earlier Down was interrupted.
func Down(ctx context.Context, o Options, out io.Writer) error {
	say := teller(out)
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return err
	}
	lost, err := l.lost()
	if err != nil {
		return err
	}
	if !lost && !exists(l.Data) {
		say("Nothing to end: there is no %s", o.DataDir)
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("not running as root: run it again with sudo")
	}
	if lost {
		say("The files in %s are gone, but their cluster was not ended; ending what is left", l.Data)
	}
	unlock, err := lockCommand(ctx, l, say)
	if err != nil {
		return err
	}
	defer unlock()
	// Only now: another command may have changed it.
	s, known, err := knownSettings(l)
	if err != nil {
		return err
	}
	if known {
		l.Run = s.RunDir
	}
	self, err := selfPath()
	if err != nil {
		return err
	}
	if err := o.systemd.Remove(ctx, unit(l, self, o)); err != nil {
		return fmt.Errorf("remove the service of the cluster: %w", err)
	}
	d := downer{options: o, layout: l, settings: s, programs: findPrograms(self, os.Getenv), say: say}
	if !known {
		return d.downUnknown(ctx)
	}
	return d.down(ctx)
}

// knownSettings are those in the data directory or, where they were removed by hand
// or damaged, their copy.
func knownSettings(l Layout) (Settings, bool, error) {
	lost, err := l.lost()
	if err != nil {
		return Settings{}, false, err
	}
	if lost {
		return readSettings(l.settingsCopy())
	}
	s, known, err := readSettings(l.settingsFile())
	if err == nil {
		return s, known, nil
	}
	tenant, tenantErr := l.tenant()
	if tenantErr != nil || tenant != l.Data || !exists(l.settingsCopy()) {
		return Settings{}, false, errors.Join(err, tenantErr)
	}
	return readSettings(l.settingsCopy())
}

// downer carries what the steps of Down share.
type downer struct {
	options  Options
	layout   Layout
	settings Settings
	programs Programs
	say      func(string, ...any)
}

// downUnknown serves a folder without settings: there was never a node, and the
// other files in it need not be ours.
func (d *downer) downUnknown(ctx context.Context) error {
	ended, err := d.endLeftovers(ctx, d.programs.executables())
	if err != nil {
		return err
	}
	if len(ended) == 0 {
		d.say("Nothing to end: %s holds no cluster", d.layout.Data)
	}
	return d.layout.forget()
}

func (d *downer) down(ctx context.Context) error {
	begin := time.Now()
	if err := d.endProcesses(ctx); err != nil {
		return err
	}
	if err := d.makeRoom(); err != nil {
		return err
	}
	if err := d.cleanNode(ctx); err != nil {
		return fmt.Errorf("remove what the node made (what is needed for it was kept, so 'keelson down' can be run again): %w", err)
	}
	if err := d.removeFiles(); err != nil {
		return err
	}
	d.say("The cluster is down, after %.1fs.", time.Since(begin).Seconds())
	return nil
}

// makeRoom removes the database first, because containerd cannot forget containers
// on a disk that is full, which is when people end clusters.
func (d *downer) makeRoom() error {
	if d.options.KeepData {
		return nil
	}
	return removeAll(d.layout.etcdDir())
}

// endProcesses ends the supervisor, which ends its children, and then whatever a
// killed supervisor left. A containerd of our own stays for the node's cleanup.
func (d *downer) endProcesses(ctx context.Context) error {
	state, alive, err := supervisor.ReadState(d.layout.stateFile())
	if err != nil {
		return err
	}
	if alive {
		if err := process.End(ctx, state.Supervisor, supervisorGrace); err != nil {
			return fmt.Errorf("end the supervisor: %w", err)
		}
	}
	_, err = d.endLeftovers(ctx, slices.DeleteFunc(d.programs.executables(), func(name string) bool { return name == nameContainerd }))
	if err != nil {
		return err
	}
	d.say("  control plane and agents have ended")
	return nil
}

func (d *downer) endLeftovers(ctx context.Context, executables []string) ([]string, error) {
	ended, err := supervisor.EndLeftovers(ctx, d.layout.Data, d.settings.startOrder(), executables)
	if err != nil {
		return ended, fmt.Errorf("end processes that were left: %w", err)
	}
	return ended, nil
}

// cleanNode removes containers, namespaces, interfaces, rules, cgroups and mounts,
// which needs containerd; one of our own is started for it where it does not run,
// and ended in any case.
func (d *downer) cleanNode(ctx context.Context) (err error) {
	if d.settings.several() {
		return d.cleanSeveral(ctx)
	}
	if d.settings.OwnContainerd {
		defer func() {
			_, endErr := d.endLeftovers(context.WithoutCancel(ctx), []string{nameContainerd})
			err = errors.Join(err, endErr)
		}()
		if err := d.ensureContainerd(ctx); err != nil {
			return err
		}
	}
	p := plan{layout: d.layout, settings: d.settings, programs: d.programs}
	if err := d.runCleanup(ctx, p.nodeArgs(p.thisMachine())); err != nil {
		return err
	}
	d.say("  containers, interfaces and rules are removed")
	return nil
}

// runCleanup lets the node's program take back what it made.
func (d *downer) runCleanup(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupAtMost)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.programs.Node, append([]string{"cleanup"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s cleanup: %w\n%s", d.programs.Node, err, lastLines(out, 20))
	}
	return nil
}

func (d *downer) ensureContainerd(ctx context.Context) error {
	if answers(d.settings.ContainerdAddress) {
		return nil
	}
	if err := prepareFolders(d.layout, d.settings); err != nil {
		return err
	}
	if err := os.MkdirAll(d.layout.logDir(), 0o750); err != nil {
		return fmt.Errorf("create the directory of logs: %w", err)
	}
	log, err := os.OpenFile(supervisor.LogFile(d.layout.logDir(), nameContainerd), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open containerd's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(d.programs.Containerd, "--config", d.layout.containerdConfig())
	cmd.Env = append(os.Environ(), process.Mark(d.layout.Data, nameContainerd)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = process.Detached()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, containerdWait)
	defer cancel()
	for tick := time.NewTicker(containerdPeriod); ; {
		if answers(d.settings.ContainerdAddress) {
			tick.Stop()
			return nil
		}
		select {
		case err := <-exited:
			return fmt.Errorf("containerd ended instead of answering at %s: %w\n%s", d.settings.ContainerdAddress, err, tail(log.Name(), 5))
		case <-ctx.Done():
			return fmt.Errorf("containerd does not answer at %s: %w\n%s", d.settings.ContainerdAddress, ctx.Err(), tail(log.Name(), 5))
		case <-tick.C:
		}
	}
}

// tail is the end of a log, or why it cannot be read.
func tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return path + " ends in:\n" + lastLines(text, n)
}

func lastLines(text []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}

// removeFiles removes what the cluster kept, and the directories if that was all
// they held. It never removes through a mount.
func (d *downer) removeFiles() error {
	mounts, err := mountsBelow(d.layout.Data, d.layout.Run)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("something is still mounted at %s: unmount it and run 'keelson down' again", strings.Join(mounts, ", "))
	}
	if err := removeAll(d.layout.ownedRun()...); err != nil {
		return err
	}
	if err := removeIfEmpty(d.layout.Run); err != nil {
		return err
	}
	if d.options.KeepData {
		return nil
	}
	if err := removeAll(d.layout.owned()...); err != nil {
		return err
	}
	for _, n := range d.settings.Nodes {
		if err := removeIfEmpty(d.layout.staticPodsOf(n.Name)); err != nil {
			return err
		}
	}
	if err := imagearchive.Remove(d.layout.imagesDir(), d.programs.DNS); err != nil {
		return err
	}
	if err := errors.Join(removeIfEmpty(d.layout.staticPodsDir()), removeIfEmpty(d.layout.imagesDir())); err != nil {
		return err
	}
	return removeIfEmpty(d.layout.Data)
}

// removeIfEmpty leaves a directory in which somebody else keeps files, or on which
// they mounted something.
func removeIfEmpty(dir string) error {
	err := os.Remove(dir)
	if err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) {
		return nil
	}
	return fmt.Errorf("remove an empty directory: %w", err)
}

func removeAll(paths ...string) error {
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the cluster's files: %w", err)
		}
	}
	return nil
}

// mountsBelow lists mount points inside the given folders.
func mountsBelow(folders ...string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			return nil, fmt.Errorf("list mounts: cannot read %q", line)
		}
		point := unescapeMount(fields[4])
		if slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(point, f+"/") }) {
			found = append(found, point)
		}
	}
	return found, nil
}

// unescapeMount undoes the octal escapes of blanks in /proc/self/mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
