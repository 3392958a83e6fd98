package join

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/cluster/internal/process"
	"github.com/keelson-dev/keelson/cluster/supervisor"
)

const (
	supervisorGrace = 60 * time.Second
	containerdWait  = 30 * time.Second
	cleanupAtMost   = 3 * time.Minute
)

// Leave ends the node's programs and Pods and removes what they made on this machine. It
// works from any state, again and again, and needs no API server: if there is one, the Node
// says that the machine has left. The object is the administrator's to delete.
func Leave(ctx context.Context, o Options, out io.Writer) error {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return err
	}
	s, joined, err := readSettings(l.settingsFile())
	if err != nil {
		return err
	}
	if !joined {
		say("Nothing to leave: %s holds no node", l.data)
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("not running as root: run it again with sudo")
	}
	l.run = s.RunDir
	p, err := findPrograms()
	if err != nil {
		return err
	}
	unlock, err := lockCommand(l)
	if err != nil {
		return err
	}
	defer unlock()
	if err := o.systemd.Remove(ctx, unit(l, p.self)); err != nil {
		return fmt.Errorf("remove the service of the node: %w", err)
	}
	if err := endPrograms(ctx, l, p); err != nil {
		return err
	}
	state := "which is not ready any more"
	if err := sayFarewell(ctx, l, s.NodeName, time.Now()); err != nil {
		say("The cluster could not be told: %v", err)
		state = "which the cluster finds silent after a while"
	}
	if err := clean(ctx, l, s, p); err != nil {
		return fmt.Errorf("remove what the node made (what is needed for it was kept, so 'keelson leave' can be run again): %w", err)
	}
	if err := removeAll(l.containerdDir(), l.supervisorLock()); err != nil {
		return err
	}
	if err := errors.Join(removeIfEmpty(l.run), removeAll(l.owned()...), removeIfEmpty(l.data)); err != nil {
		return err
	}
	say("This machine is no node any more. Its Node object, %s, is the administrator's to delete. On the cluster's machine:", state)
	say("  keelson node delete %s", s.NodeName)
	return nil
}

// endPrograms ends the supervisor, which ends the agent, and then whatever a killed
// supervisor left. A containerd of our own stays for the cleanup.
func endPrograms(ctx context.Context, l layout, p programs) error {
	state, alive, err := supervisor.ReadState(l.stateFile())
	if err != nil {
		return err
	}
	if alive {
		if err := process.End(ctx, state.Supervisor, supervisorGrace); err != nil {
			return fmt.Errorf("end the supervisor: %w", err)
		}
	}
	names := slices.DeleteFunc(p.executables(), func(name string) bool { return name == nameContainerd })
	if _, err := supervisor.EndLeftovers(ctx, l.data, startOrder, names); err != nil {
		return fmt.Errorf("end processes that were left: %w", err)
	}
	return nil
}

func clean(ctx context.Context, l layout, s settings, p programs) (err error) {
	if s.OwnContainerd {
		defer func() {
			_, endErr := supervisor.EndLeftovers(context.WithoutCancel(ctx), l.data, startOrder, []string{nameContainerd})
			err = errors.Join(err, endErr)
		}()
		if err := ensureContainerd(ctx, l, s, p); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupAtMost)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.node, append([]string{"cleanup"}, nodeArgs(l, s, p)...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s cleanup: %w\n%s", p.node, err, lastLines(out, 20))
	}
	return nil
}

// ensureContainerd starts our own containerd where it does not run.
func ensureContainerd(ctx context.Context, l layout, s settings, p programs) error {
	if dial(ctx, s.ContainerdAddress) == nil {
		return nil
	}
	if err := prepareFolders(l, s); err != nil {
		return err
	}
	log, err := os.OpenFile(supervisor.LogFile(l.logDir(), nameContainerd), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open containerd's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(p.containerd, "--config", l.containerdConfig())
	cmd.Env = append(os.Environ(), process.Mark(l.data, nameContainerd)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = process.Detached()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, containerdWait)
	defer cancel()
	tick := time.NewTicker(waitPeriod)
	defer tick.Stop()
	for dial(ctx, s.ContainerdAddress) != nil {
		select {
		case err := <-exited:
			return fmt.Errorf("containerd ended instead of answering at %s: %w (log: %s)", s.ContainerdAddress, err, log.Name())
		case <-ctx.Done():
			return fmt.Errorf("containerd does not answer at %s: %w (log: %s)", s.ContainerdAddress, ctx.Err(), log.Name())
		case <-tick.C:
		}
	}
	return nil
}

func lastLines(text []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}

func removeAll(paths ...string) error {
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the node's files: %w", err)
		}
	}
	return nil
}

// removeIfEmpty leaves a folder in which somebody else keeps files.
func removeIfEmpty(dir string) error {
	err := os.Remove(dir)
	if err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) {
		return nil
	}
	return fmt.Errorf("remove an empty folder: %w", err)
}
