package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/cluster/doctor"
	"github.com/keelson-dev/keelson/cluster/internal/files"
	"github.com/keelson-dev/keelson/cluster/internal/process"
	"github.com/keelson-dev/keelson/cluster/pki"
	"github.com/keelson-dev/keelson/cluster/supervisor"
	"github.com/keelson-dev/keelson/version"
)

// ErrMachine is returned when the machine lacks something; what, was printed.
var ErrMachine = errors.New("fix the above and run it again")

// Up starts the cluster, unless it runs already, and waits until it is ready. It
// tells on out what it does.
func Up(ctx context.Context, o Options, out io.Writer) error {
	say := teller(out)
	self, err := selfPath()
	if err != nil {
		return err
	}
	programs := findPrograms(self, os.Getenv)
	if err := examine(ctx, programs, out); err != nil {
		return err
	}
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return err
	}
	if o.Systemd {
		if err := o.systemd.Check(unit(l, self, o), "keelson up --data-dir "+l.Data); err != nil {
			return err
		}
	}
	unlock, err := lockCommand(ctx, l, say)
	if err != nil {
		return err
	}
	defer unlock()
	u := upper{options: o, layout: l, programs: programs, say: say}
	if err := u.ensureSupervisor(ctx); err != nil {
		return errors.Join(err, l.forget())
	}
	return u.wait(ctx)
}

func teller(out io.Writer) func(string, ...any) {
	return func(format string, args ...any) {
		fmt.Fprintf(out, format+"\n", args...)
	}
}

func examine(ctx context.Context, p Programs, out io.Writer) error {
	facts, err := doctor.Gather(ctx, []doctor.Built{
		{Path: p.Etcd, Make: "k8s"},
		{Path: p.APIServer, Make: "k8s"},
		{Path: p.Manager, Make: "build"},
		{Path: p.Node, Make: "build"},
		{Path: p.Gateway, Make: "build"},
		{Path: p.DNS, Make: "build"},
		{Path: p.Pause, Make: "build"},
		{Path: p.Logger, Make: "build"},
	})
	if err != nil {
		return fmt.Errorf("examine this machine: %w", err)
	}
	if problems := doctor.Judge(facts); len(problems) > 0 {
		fmt.Fprint(out, doctor.Render(problems))
		return ErrMachine
	}
	return nil
}

// upper carries what the steps of Up share.
type upper struct {
	options  Options
	layout   Layout
	programs Programs
	say      func(string, ...any)
	// settings are those of the cluster that this command starts.
	settings Settings
	// child is the supervisor that this command started, if it did.
	child *process.Identity
}

// ensureSupervisor starts the supervisor, or finds the one that runs.
func (u *upper) ensureSupervisor(ctx context.Context) error {
	old, known, err := readSettings(u.layout.settingsFile())
	if err != nil {
		return err
	}
	if known {
		if err := sameCluster(old, u.options); err != nil {
			return err
		}
		u.layout.Run = old.RunDir
	}
	if goesOn, err := u.goesOn(ctx, old, known); err != nil || goesOn {
		return err
	}
	if !known {
		if err := errors.Join(u.layout.checkFresh(), u.layout.checkNotLost(), u.layout.checkSpace(minSpace)); err != nil {
			return err
		}
	}
	var before *Settings
	if known {
		before = &old
	}
	if old.Systemd { // else it may start one meanwhile
		if err := u.options.systemd.Stop(ctx, u.unit()); err != nil {
			return err
		}
	}
	if err := u.makeReady(ctx, before); err != nil {
		return err
	}
	return u.start(ctx)
}

// makeReady does all that a supervisor finds done; old is nil for a new cluster.
func (u *upper) makeReady(ctx context.Context, old *Settings) error {
	if err := u.claimMachine(); err != nil {
		return err
	}
	var before Settings
	if old != nil {
		before = *old
	}
	ended, err := supervisor.EndLeftovers(ctx, u.layout.Data, before.startOrder(), u.programs.executables())
	if err != nil {
		return fmt.Errorf("end what an earlier supervisor left: %w", err)
	}
	if len(ended) > 0 {
		u.say("Took over from a supervisor that is gone; restarting %s", strings.Join(ended, ", "))
	}
	err = u.prepare(ctx, old)
	if err != nil && old == nil { // nothing ran yet, and checkFresh saw that no such files were there
		err = errors.Join(err, removeAll(append(u.layout.owned(), u.layout.settingsCopy())...))
	}
	return err
}

// start starts the supervisor, or lets systemd do it.
func (u *upper) start(ctx context.Context) error {
	if u.settings.Systemd {
		return u.startService(ctx)
	}
	return u.startSupervisor()
}

// goesOn says that a supervisor of this version runs, which the flags agree with. One of
// another version is ended.
func (u *upper) goesOn(ctx context.Context, s Settings, known bool) (bool, error) {
	state, running, err := supervisor.ReadState(u.layout.stateFile())
	if err != nil || !running || !known {
		return false, err
	}
	if err := sameWhileRunning(s, u.options); err != nil {
		return true, err
	}
	if state.Version != version.Get().String() {
		return false, u.replace(ctx, s, state)
	}
	if u.options.Systemd {
		return u.handOver(ctx, s, state.Supervisor)
	}
	return true, nil
}

// replace ends the programs of another version, so that those of this one take their place.
// Containers go on, as they do when a supervisor was killed, and what is killed here the
// next up finds as that.
func (u *upper) replace(ctx context.Context, s Settings, running supervisor.State) error {
	u.say("The cluster's programs are of another version, %s, and are replaced by those of %s; containers go on",
		cmp.Or(running.Version, "before versions were noted"), version.Get())
	if s.Systemd {
		if err := u.options.systemd.Stop(ctx, u.unit()); err != nil {
			return err
		}
	}
	if err := process.End(ctx, running.Supervisor, supervisorGrace); err != nil {
		return fmt.Errorf("end the supervisor of another version: %w", err)
	}
	return nil
}

// claimMachine refuses to start a second cluster: interfaces, chains and the
// namespace in containerd have one name per machine.
func (u *upper) claimMachine() error {
	if err := os.MkdirAll(u.layout.Run, 0o755); err != nil {
		return fmt.Errorf("create the run directory: %w", err)
	}
	other, err := u.layout.tenant()
	if err != nil {
		return err
	}
	if other != "" && other != u.layout.Data {
		theirs := Layout{Data: other, Run: u.layout.Run}
		if exists(theirs.settingsFile()) || exists(theirs.settingsCopy()) {
			return fmt.Errorf("this machine runs the cluster in %s, and can run one at a time: end it with 'keelson down --data-dir %s'", other, other)
		}
	}
	return files.Replace(u.layout.tenantFile(), []byte(u.layout.Data+"\n"), 0o644)
}

// prepare decides the settings and writes them with the credentials.
func (u *upper) prepare(ctx context.Context, old *Settings) error {
	machine, err := look()
	if err != nil {
		return err
	}
	s, err := decideSettings(old, u.options, u.layout, machine)
	if err != nil {
		return err
	}
	u.settings = s
	if err := tryAPIServerArgs(ctx, u.programs.APIServer, s.APIServerArgs); err != nil {
		return err
	}
	if err := errors.Join(s.write(u.layout.settingsFile()), s.write(u.layout.settingsCopy())); err != nil {
		return err
	}
	if err := writeNodeConfig(u.layout.nodeConfigFile()); err != nil {
		return err
	}
	_, err = ensureCredentials(pki.NewStore(u.layout.pkiDir(), clock.RealClock{}), u.layout, s)
	return err
}

func (u *upper) startSupervisor() error {
	if err := os.MkdirAll(u.layout.logDir(), 0o750); err != nil {
		return fmt.Errorf("create the directory of logs: %w", err)
	}
	log, err := os.OpenFile(u.supervisorLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open the supervisor's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(u.programs.Keelson, "supervise", "--data-dir="+u.layout.Data, "--run-dir="+u.layout.Run)
	cmd.Env = append(os.Environ(), process.Mark(u.layout.Data, nameSupervisor)...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = process.Detached()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	child, err := process.Of(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("the supervisor ended at once: %s", u.tailOfSupervisorLog())
	}
	u.child = &child
	return cmd.Process.Release()
}

const nameSupervisor = "supervisor"

func (u *upper) supervisorLog() string {
	return supervisor.LogFile(u.layout.logDir(), nameSupervisor)
}

func (u *upper) tailOfSupervisorLog() string {
	if u.settings.Systemd {
		return "see 'journalctl -u " + unitName + "'"
	}
	return tail(u.supervisorLog(), 5)
}

// wait returns when every component is ready, and prints each as it becomes so.
func (u *upper) wait(ctx context.Context) error {
	const period = 50 * time.Millisecond
	ctx, cancel := context.WithTimeoutCause(ctx, u.options.Timeout, errTimeout)
	defer cancel()
	tick := time.NewTicker(period)
	defer tick.Stop()
	begin := time.Now()
	var p progress
	for {
		state, alive, err := supervisor.ReadState(u.layout.stateFile())
		if err != nil {
			return err
		}
		done := alive && state.AllReady()
		if u.child != nil || !done {
			for _, line := range p.lines(state, alive, time.Now()) {
				u.say("%s", line)
			}
		}
		switch {
		case done:
			u.finish(time.Since(begin))
			return nil
		case u.child != nil && !u.child.Alive():
			return fmt.Errorf("the supervisor ended: %s", u.tailOfSupervisorLog())
		}
		select {
		case <-ctx.Done():
			return u.giveUp(ctx, state, alive)
		case <-tick.C:
		}
	}
}

var errTimeout = errors.New("timed out")

func (u *upper) finish(took time.Duration) {
	if u.child != nil && u.settings.Systemd {
		u.say("The cluster is up, after %.1fs. The service %s keeps it up, and starts at boot; look around with", took.Seconds(), unitName)
	} else if u.child != nil {
		u.say("The cluster is up, after %.1fs. It runs in the background; look around with", took.Seconds())
	} else {
		u.say("The cluster is already up. Look around with")
	}
	if exists(u.layout.Kubeconfig()) {
		u.say("  export KUBECONFIG=%s", u.layout.Kubeconfig())
		u.say("  %s get pods -A", u.programs.Kubectl)
	} else { // it still runs as an earlier version started it
		u.say("  export KUBECONFIG=%s", u.layout.AdminKubeconfig())
		u.say("  %s get keelson -A", u.programs.Kubectl)
	}
	u.say("  %s status%s", u.programs.Keelson, u.dirFlags())
	u.say("and end everything with")
	u.say("  %s down%s", u.programs.Keelson, u.dirFlags())
	u.say("Logs are in %s.", u.layout.logDir())
	u.remindOfNodes()
}

// remindOfNodes tells which nodes are not as a new cluster's are.
func (u *upper) remindOfNodes() {
	s, _, err := readSettings(u.layout.settingsFile())
	if err != nil {
		return // the cluster runs; status tells what is wrong with its settings
	}
	for _, n := range s.Nodes {
		switch {
		case n.Deleting:
			u.say("Node %s is being deleted; finish it with '%s node delete %s%s'", n.Name, u.programs.Keelson, n.Name, u.dirFlags())
		case n.Stopped:
			u.say("Node %s is switched off; start it with '%s node start %s%s'", n.Name, u.programs.Keelson, n.Name, u.dirFlags())
		case n.Cut.From != "":
			u.say("Node %s is %s; take it back with '%s node heal %s%s'", n.Name, n.Cut, u.programs.Keelson, n.Name, u.dirFlags())
		}
	}
}

// dirFlags name this cluster to another command, wherever that is typed.
func (u *upper) dirFlags() string {
	flags := " --data-dir " + u.layout.Data
	if u.layout.Run != NewOptions().RunDir {
		flags += " --run-dir " + u.layout.Run
	}
	return flags
}

func (u *upper) giveUp(ctx context.Context, state supervisor.State, alive bool) error {
	if !errors.Is(context.Cause(ctx), errTimeout) {
		u.say("Interrupted; the cluster goes on starting in the background; end it with '%s down%s'", u.programs.Keelson, u.dirFlags())
		return fmt.Errorf("wait until the cluster is ready: %w", context.Cause(ctx))
	}
	if !alive {
		return fmt.Errorf("the supervisor did not start within %s: see %s", u.options.Timeout, u.supervisorLog())
	}
	var missing []error
	for _, c := range state.Components {
		if c.Phase != supervisor.Ready {
			line := "  " + c.Name + ": " + describe(c)
			if log := supervisor.LogFile(u.layout.logDir(), c.Name); exists(log) {
				line += " (log: " + log + ")"
			}
			missing = append(missing, errors.New(line))
		}
	}
	return fmt.Errorf("not ready after %s; it goes on trying in the background, 'keelson down' ends it:\n%w", u.options.Timeout, errors.Join(missing...))
}
