package join

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/util/certificate"

	"github.com/keelson-dev/keelson/cluster/doctor"
	"github.com/keelson-dev/keelson/cluster/internal/files"
	"github.com/keelson-dev/keelson/cluster/internal/process"
	"github.com/keelson-dev/keelson/cluster/supervisor"
	"github.com/keelson-dev/keelson/cluster/tokens"
)

// ErrMachine is returned when the machine lacks something; what, was printed.
var ErrMachine = errors.New("fix the above and run it again")

const waitPeriod = 50 * time.Millisecond

// joiner carries what the steps share.
type joiner struct {
	options  Options
	layout   layout
	programs programs
	say      func(string, ...any)
	now      func() time.Time
}

// Join makes this machine a node, starts its programs in the background, and waits until
// the node is ready. On a machine that has joined, and whose programs do not run, it
// starts them again, for which it needs nothing but the folder.
func Join(ctx context.Context, o Options, out io.Writer) error {
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return err
	}
	p, err := findPrograms()
	if err != nil {
		return err
	}
	j := &joiner{options: o, layout: l, programs: p, now: time.Now, say: func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }}
	if err := j.examine(ctx, out); err != nil {
		return err
	}
	if o.Systemd {
		if err := o.systemd.Check(unit(l, p.self), "keelson join --data-dir "+l.data); err != nil {
			return err
		}
	}
	unlock, err := lockCommand(l)
	if err != nil {
		return err
	}
	defer unlock()
	begin := time.Now()
	s, joined, err := readSettings(l.settingsFile())
	if err != nil {
		return err
	}
	if joined {
		s, err = j.startAgain(ctx, s)
	} else {
		s, err = j.enroll(ctx)
	}
	if err != nil {
		return errors.Join(err, l.forgetUnlessJoined())
	}
	j.layout.run = s.RunDir
	child, log, err := j.start(ctx, s)
	if err != nil {
		return err
	}
	if err := j.wait(ctx, child, log); err != nil {
		return err
	}
	j.say("Node %s is ready, after %.1fs.", s.NodeName, time.Since(begin).Seconds())
	if s.Systemd {
		j.say("The service %s keeps its programs up, and starts at boot.", unitName)
	} else {
		j.say("Its programs run in the background; after a restart of this machine, 'keelson join --data-dir %s' starts them again ('--systemd' lets systemd do that).", l.data)
	}
	j.say("'keelson leave --data-dir %s' takes this machine out of the cluster.", l.data)
	return nil
}

func (j *joiner) examine(ctx context.Context, out io.Writer) error {
	facts, err := doctor.Gather(ctx, j.programs.built())
	if err != nil {
		return fmt.Errorf("examine this machine: %w", err)
	}
	if problems := doctor.Judge(facts); len(problems) > 0 {
		fmt.Fprint(out, doctor.Render(problems))
		return ErrMachine
	}
	return nil
}

// startAgain decides what becomes of a machine that has joined.
func (j *joiner) startAgain(ctx context.Context, s settings) (settings, error) {
	state, running, err := supervisor.ReadState(j.layout.stateFile())
	if err != nil {
		return s, err
	}
	server := j.options.Server
	if running && !j.options.Systemd || server != "" && server != s.Server {
		return s, fmt.Errorf("this machine is the node %s of the cluster at %s already: 'keelson leave --data-dir %s' takes it out", s.NodeName, s.Server, j.layout.data)
	}
	if running {
		return j.handOver(ctx, s, state.Supervisor)
	}
	if err := j.endLeftovers(ctx); err != nil {
		return s, err
	}
	return j.withSystemd(s)
}

// handOver ends a supervisor so that systemd can start one, unless it has done so.
func (j *joiner) handOver(ctx context.Context, s settings, running process.Identity) (settings, error) {
	if s.Systemd {
		if id, err := j.options.systemd.Main(ctx, unit(j.layout, j.programs.self)); err == nil && id == running {
			return s, nil
		}
	}
	j.say("Handing the node's programs over to systemd")
	if err := process.End(ctx, running, supervisorGrace); err != nil {
		return s, fmt.Errorf("end the supervisor: %w", err)
	}
	return j.withSystemd(s)
}

// withSystemd remembers that systemd is to start the supervisor from now on.
func (j *joiner) withSystemd(s settings) (settings, error) {
	if s.Systemd || !j.options.Systemd {
		return s, nil
	}
	s.Systemd = true
	return s, s.write(j.layout.settingsFile())
}

func (j *joiner) endLeftovers(ctx context.Context) error {
	ended, err := supervisor.EndLeftovers(ctx, j.layout.data, startOrder, j.programs.executables())
	if err != nil {
		return fmt.Errorf("end what an earlier supervisor left: %w", err)
	}
	if len(ended) > 0 {
		j.say("Took over from a supervisor that is gone; restarting %s", strings.Join(ended, ", "))
	}
	return nil
}

// enroll gets the node's certificate and writes its settings.
func (j *joiner) enroll(ctx context.Context) (settings, error) {
	o := j.options
	if err := o.Validate(); err != nil {
		return settings{}, err
	}
	if tenant, err := os.ReadFile(j.layout.tenantFile()); err == nil {
		return settings{}, fmt.Errorf("this machine runs the cluster in %s, and can be in one at a time: end it with 'keelson down' first", strings.TrimSpace(string(tenant)))
	}
	token, err := tokens.Parse(o.Token)
	if err != nil {
		return settings{}, fmt.Errorf("--token: %w", err)
	}
	ca, err := discover(ctx, o.Server, o.CAHash, j.now())
	if err != nil {
		return settings{}, err
	}
	b, err := newBootstrapper(o.Server, ca, token)
	if err != nil {
		return settings{}, err
	}
	s, err := j.decide(ctx, b)
	if err != nil {
		return settings{}, err
	}
	certPEM, keyPEM, err := b.clientCertificate(ctx, s.NodeName)
	if err != nil {
		return settings{}, err
	}
	if err := j.keep(s, ca, certPEM, keyPEM); err != nil {
		return settings{}, err
	}
	j.say("The cluster at %s gave this machine the certificate of node %s", s.Server, s.NodeName)
	return s, nil
}

// decide finds out what was not given, and refuses what cannot work.
func (j *joiner) decide(ctx context.Context, b *bootstrapper) (settings, error) {
	o := j.options
	s := settings{Server: o.Server, NodeName: o.NodeName, NodeIPGiven: o.NodeIP != "", RunDir: j.layout.run, ContainerdAddress: o.ContainerdAddress, CgroupRoot: o.CgroupRoot, RegistryConfigDir: o.RegistryConfigDir, NodeConfig: o.NodeConfig, Systemd: o.Systemd}
	var err error
	if s.Cluster, err = b.clusterConfig(ctx); err != nil {
		return s, err
	}
	networks, err := machineNetworks()
	if err != nil {
		return s, err
	}
	if err := checkNetworks(s.Cluster, networks); err != nil {
		return s, err
	}
	if s.NodeName, err = nodeName(o.NodeName); err != nil {
		return s, err
	}
	if !o.Replace {
		node, err := b.node(ctx, s.NodeName)
		if err != nil {
			return s, b.explain(err)
		}
		id, _ := os.ReadFile("/etc/machine-id") // a machine without one has an empty one, as the agent says
		if err := checkName(node, strings.TrimSpace(string(id))); err != nil {
			return s, err
		}
	}
	if s.NodeIP, err = nodeIP(ctx, o.NodeIP, o.Server); err != nil {
		return s, err
	}
	if s.ContainerdAddress == "" {
		s.ContainerdAddress = machineSocket
		if dial(ctx, machineSocket) != nil {
			s.ContainerdAddress, s.OwnContainerd = j.layout.containerdSocket(), true
		}
	} else if err := dial(ctx, s.ContainerdAddress); err != nil {
		return s, fmt.Errorf("--containerd-address: no containerd answers there: %w", err)
	}
	return s, nil
}

func nodeName(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the host name: %w; give a name with --node-name", err)
	}
	name = strings.ToLower(name)
	if reasons := validation.IsDNS1123Subdomain(name); len(reasons) > 0 {
		return "", fmt.Errorf("the host name %q cannot name a node (%s): give another name with --node-name", name, strings.Join(reasons, "; "))
	}
	return name, nil
}

// nodeIP is the address from which this machine reaches the cluster, as the kernel says
// of a UDP socket, which sends nothing.
func nodeIP(ctx context.Context, given, server string) (netip.Addr, error) {
	if given != "" {
		ip, err := netip.ParseAddr(given)
		if err != nil {
			return ip, fmt.Errorf("--node-ip: %w", err)
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(given, "0"))
		if err != nil {
			return ip, fmt.Errorf("--node-ip: %s is not an address of this machine: %w", given, err)
		}
		return ip, l.Close()
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp4", server)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the address from which this machine reaches %s: %w; give one with --node-ip", server, err)
	}
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), conn.Close()
}

// keep writes everything; the settings, which say that the machine has joined, last.
func (j *joiner) keep(s settings, ca, certPEM, keyPEM []byte) error {
	l := j.layout
	if err := os.RemoveAll(l.pkiDir()); err != nil {
		return fmt.Errorf("remove what an earlier join left: %w", err)
	}
	if err := os.MkdirAll(l.pkiDir(), 0o700); err != nil {
		return fmt.Errorf("create the folder of certificates: %w", err)
	}
	if err := files.Replace(l.caFile(), ca, 0o644); err != nil {
		return err
	}
	store, err := certificate.NewFileStore(clientPair, l.pkiDir(), l.pkiDir(), "", "")
	if err == nil {
		_, err = store.Update(certPEM, keyPEM)
	}
	if err != nil {
		return fmt.Errorf("keep the node's certificate: %w", err)
	}
	if err := writeKubeconfig(l, s.Server); err != nil {
		return err
	}
	return s.write(l.settingsFile())
}

// forgetUnlessJoined removes what a join that failed has made.
func (l layout) forgetUnlessJoined() error {
	if _, err := os.Lstat(l.settingsFile()); err == nil {
		return nil
	}
	return errors.Join(removeAll(append(l.unfinished(), l.commandLock())...), removeIfEmpty(l.data))
}

// start starts the supervisor, and says where it tells why it ended.
func (j *joiner) start(ctx context.Context, s settings) (child process.Identity, log string, err error) {
	if s.Systemd {
		if err := j.options.systemd.Install(ctx, unit(j.layout, j.programs.self)); err != nil {
			return child, "", fmt.Errorf("make the node a service of systemd: %w", err)
		}
		child, err = j.options.systemd.Main(ctx, unit(j.layout, j.programs.self))
		return child, "'journalctl -u " + unitName + "'", err
	}
	child, err = j.startInBackground()
	return child, supervisor.LogFile(j.layout.logDir(), nameSupervisor), err
}

func (j *joiner) startInBackground() (process.Identity, error) {
	l := j.layout
	if err := os.MkdirAll(l.logDir(), 0o750); err != nil {
		return process.Identity{}, fmt.Errorf("create the folder of logs: %w", err)
	}
	if err := os.MkdirAll(l.run, 0o755); err != nil {
		return process.Identity{}, fmt.Errorf("create the run directory: %w", err)
	}
	log, err := os.OpenFile(supervisor.LogFile(l.logDir(), nameSupervisor), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return process.Identity{}, fmt.Errorf("open the supervisor's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(j.programs.self, "supervise-node", "--data-dir="+l.data)
	cmd.Env = append(os.Environ(), process.Mark(l.data, nameSupervisor)...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = process.Detached()
	if err := cmd.Start(); err != nil {
		return process.Identity{}, fmt.Errorf("start the supervisor: %w", err)
	}
	child, err := process.Of(cmd.Process.Pid)
	if err != nil {
		return process.Identity{}, fmt.Errorf("the supervisor ended at once: see %s", log.Name())
	}
	return child, cmd.Process.Release()
}

// wait returns when the node is ready.
func (j *joiner) wait(ctx context.Context, child process.Identity, log string) error {
	ctx, cancel := context.WithTimeout(ctx, j.options.Timeout)
	defer cancel()
	tick := time.NewTicker(waitPeriod)
	defer tick.Stop()
	for {
		state, alive, err := supervisor.ReadState(j.layout.stateFile())
		if err != nil {
			return err
		}
		switch {
		case alive && state.Supervisor == child && state.AllReady():
			return nil
		case !child.Alive():
			return fmt.Errorf("the supervisor ended: see %s", log)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the node is not ready after %s: %w; it goes on trying in the background (logs: %s)%s", j.options.Timeout, ctx.Err(), j.layout.logDir(), missing(state))
		case <-tick.C:
		}
	}
}

func missing(state supervisor.State) string {
	var text strings.Builder
	for _, c := range state.Components {
		if c.Phase != supervisor.Ready {
			fmt.Fprintf(&text, "\n  %s: %s: %s", c.Name, c.Phase, c.Message)
		}
	}
	return text.String()
}

// lockCommand lets one join or leave at a time work on a data directory.
func lockCommand(l layout) (unlock func(), err error) {
	if err := os.MkdirAll(l.data, 0o755); err != nil {
		return nil, fmt.Errorf("--data-dir: create the folder: %w", err)
	}
	f, err := os.OpenFile(l.commandLock(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--data-dir: open the lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("--data-dir: another keelson command works on %s: wait until it has ended (%w)", l.data, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing drops the lock
}
