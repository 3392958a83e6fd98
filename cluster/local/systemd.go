package local

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/daemon"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/cluster/internal/process"
	"github.com/keelson-dev/keelson/cluster/internal/systemd"
	"github.com/keelson-dev/keelson/cluster/supervisor"
)

// unitName is the service of the cluster, of which a machine has one at most.
const unitName = "keelson.service"

// unit is the service that keeps the cluster of a folder up. At boot it decides the settings
// anew, as up would with the flags that count for one start only.
func unit(l Layout, self string, o Options) systemd.Unit {
	u := systemd.Unit{
		Name: unitName, Description: "Keelson cluster", Folder: l.Data,
		Writer: "keelson up --systemd", Remover: "keelson down",
		Program: self, Args: []string{"supervise", "--data-dir=" + l.Data, "--run-dir=" + l.Run, "--as-service"},
		StopSeconds: int(supervisorGrace.Seconds()) + 30,
	}
	if o.NodeIP != "" {
		u.Args = append(u.Args, "--node-ip="+o.NodeIP)
	}
	if o.NoFsync {
		u.Args = append(u.Args, "--unsafe-no-fsync")
	}
	for _, name := range []string{"KUBEBUILDER_ASSETS", "GOGC"} {
		if value := os.Getenv(name); value != "" {
			u.Environment = append(u.Environment, name+"="+value)
		}
	}
	return u
}

// unit is the service that this command would make.
func (u *upper) unit() systemd.Unit {
	return unit(u.layout, u.programs.Keelson, u.options)
}

// startService lets systemd start the supervisor.
func (u *upper) startService(ctx context.Context) error {
	if err := u.options.systemd.Install(ctx, u.unit()); err != nil {
		return fmt.Errorf("make the cluster a service of systemd: %w", err)
	}
	child, err := u.options.systemd.Main(ctx, u.unit())
	u.child = &child
	return err
}

// handOver ends a supervisor so that systemd can start one, unless it is systemd's already.
func (u *upper) handOver(ctx context.Context, s Settings, running process.Identity) (goesOn bool, err error) {
	if s.Systemd {
		if id, err := u.options.systemd.Main(ctx, u.unit()); err == nil && id == running {
			return true, nil
		}
	}
	u.say("Handing the cluster over to systemd; containers go on")
	if err := process.End(ctx, running, supervisorGrace); err != nil {
		return false, fmt.Errorf("end the supervisor: %w", err)
	}
	return false, nil
}

// takeOver makes ready what up would have, for a supervisor that systemd starts: at boot the
// run directory is empty, addresses and ports may be others, and a supervisor that was killed
// has left its programs.
func takeOver(ctx context.Context, o Options) error {
	self, err := selfPath()
	if err != nil {
		return err
	}
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return err
	}
	old, known, err := readSettings(l.settingsFile())
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("%s holds no cluster: start one with 'keelson up'", l.Data)
	}
	if state, running, err := supervisor.ReadState(l.stateFile()); err != nil || running {
		return errors.Join(err, fmt.Errorf("the cluster in %s has a supervisor, process %d: 'keelson up --systemd' hands it over", l.Data, state.Supervisor.PID))
	}
	log := klog.FromContext(ctx)
	u := upper{options: o, layout: l, programs: findPrograms(self, os.Getenv), say: func(format string, args ...any) {
		log.Info("Taking over", "what", fmt.Sprintf(format, args...))
	}}
	return u.makeReady(ctx, &old)
}

// sayReady tells systemd, if that is who started this process, that the cluster is looked
// after from now on.
func sayReady(context.Context) error {
	if _, err := daemon.SdNotify(true, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("tell systemd that the service runs: %w", err)
	}
	return nil
}
