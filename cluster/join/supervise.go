package join

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/cluster/doctor"
	"github.com/keelson-dev/keelson/cluster/internal/files"
	"github.com/keelson-dev/keelson/cluster/supervisor"
)

const (
	nameContainerd = "containerd"
	nameNode       = "keelson-node"
	nameSupervisor = "supervisor"

	healthAddress = "127.0.0.1:10248"
	serverPort    = 10250
	machineSocket = "/run/containerd/containerd.sock"
)

var startOrder = []string{nameContainerd, nameNode}

// programs are the executables of a node.
type programs struct{ self, node, pause, logger, containerd string }

// findPrograms looks beside this one.
func findPrograms() (programs, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return programs{}, fmt.Errorf("find this program: %w", err)
	}
	bin := filepath.Dir(self)
	return programs{
		self: self, node: filepath.Join(bin, "keelson-node"), pause: filepath.Join(bin, "pause"), logger: filepath.Join(bin, "keelson-logger"), containerd: "containerd",
	}, nil
}

func (p programs) built() []doctor.Built {
	return []doctor.Built{{Path: p.node, Make: "build"}, {Path: p.pause, Make: "build"}, {Path: p.logger, Make: "build"}}
}

// executables are the base names by which leftover children are recognised.
func (p programs) executables() []string {
	return []string{filepath.Base(p.node), filepath.Base(p.containerd), filepath.Base(p.self)}
}

// nodeArgs are also those of the node's cleanup, which has to look in the same places.
func nodeArgs(l layout, s settings, p programs) []string {
	args := []string{
		"--kubeconfig=" + l.kubeconfig(),
		"--node-name=" + s.NodeName,
		"--node-ip=" + s.NodeIP.String(),
		"--containerd-address=" + s.ContainerdAddress,
		"--root-dir=" + l.rootDir(),
		"--run-dir=" + l.run,
		"--pause-binary=" + p.pause,
		"--logger-binary=" + p.logger,
		"--health-address=" + healthAddress,
	}
	args = append(args, s.Cluster.agentArgs()...)
	if s.RegistryConfigDir != "" {
		args = append(args, "--registry-config-dir="+s.RegistryConfigDir)
	}
	if s.CgroupRoot != "" {
		args = append(args, "--cgroup-root="+s.CgroupRoot)
	}
	return args
}

func serverArgs(l layout, s settings) []string {
	args := []string{
		"--server-address=" + s.NodeIP.String(), "--server-port=" + strconv.Itoa(serverPort),
		"--client-ca-file=" + l.caFile(),
		"--rotate-certificates", "--cert-dir=" + l.pkiDir(),
	}
	if s.NodeConfig != "" {
		args = append(args, "--config="+s.NodeConfig)
	}
	return args
}

// components are the programs of the node; the agent starts with the settings of that
// moment.
func components(l layout, s settings, p programs, now func() settings, ready func(context.Context) error) []supervisor.Component {
	var list []supervisor.Component
	node := supervisor.Component{
		Name: nameNode, Command: &supervisor.Command{
			Path: p.node, ArgsNow: func() []string {
				s := now()
				return append(nodeArgs(l, s, p), serverArgs(l, s)...)
			},
		},
		Ready: ready, StopTimeout: 15 * time.Second,
	}
	if s.OwnContainerd {
		node.DependsOn = []string{nameContainerd}
		list = append(list, supervisor.Component{
			Name: nameContainerd, Command: &supervisor.Command{Path: p.containerd, Args: []string{"--config", l.containerdConfig()}},
			Ready: func(ctx context.Context) error { return dial(ctx, s.ContainerdAddress) },
			// Containers outlive the agent; leave ends them.
			Leave: true,
		})
	}
	return append(list, node)
}

func dial(ctx context.Context, socket string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	return conn.Close()
}

// nodeReady asks the agent of this machine, and then, as the node, whether the cluster
// knows.
func nodeReady(client kubernetes.Interface, s settings) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := healthy(ctx); err != nil {
			return err
		}
		node, err := getNode(ctx, client, s.NodeName)
		if err != nil {
			return err
		}
		if node == nil || !isReady(node) {
			return fmt.Errorf("Node %s is not ready yet", s.NodeName)
		}
		return nil
	}
}

// asNode is a client with the rights of the node. Its certificate is read when it is used,
// so that a renewed one is taken up.
func asNode(l layout) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", l.kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("read the node's kubeconfig: %w", err)
	}
	config.UserAgent, config.QPS = "keelson-join", -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return client, nil
}

func healthy(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+healthAddress+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the agent is not ready: %s", resp.Status)
	}
	return nil
}

// Supervise keeps the programs of the node up until ctx ends. Join starts it in the
// background.
func Supervise(ctx context.Context, o Options) error {
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return err
	}
	s, joined, err := readSettings(l.settingsFile())
	if err != nil {
		return err
	}
	if !joined {
		return fmt.Errorf("%s holds no node: run 'keelson join' first", l.data)
	}
	l.run = s.RunDir
	p, err := findPrograms()
	if err != nil {
		return err
	}
	if err := prepareFolders(l, s); err != nil {
		return err
	}
	client, err := asNode(l)
	if err != nil {
		return err
	}
	f := &follower{client: client, settings: s, keep: func(s settings) error { return s.write(l.settingsFile()) }}
	f.restart = func(ctx context.Context) error {
		_, err := supervisor.EndLeftovers(ctx, l.data, startOrder, []string{filepath.Base(p.node)})
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	err = supervisor.Run(ctx, supervisor.Options{
		Components: components(l, s, p, f.now, nodeReady(client, s)), Owner: l.data,
		LogDir: l.logDir(), StateFile: l.stateFile(), LockFile: l.supervisorLock(), Clock: clock.RealClock{},
		Prepare: func(ctx context.Context) error {
			if err := takeOver(ctx, l, p); err != nil {
				return err
			}
			following.Go(func() { f.follow(ctx) })
			following.Go(func() { f.followAddress(ctx, realAddresses(s.Server)) })
			return nil
		},
	})
	stop()
	following.Wait()
	return err
}

// takeOver ends what a supervisor that was killed has left, and tells systemd, if that is
// who started this one, that the node is looked after from now on.
func takeOver(ctx context.Context, l layout, p programs) error {
	others := slices.DeleteFunc(p.executables(), func(name string) bool { return name == filepath.Base(p.self) })
	ended, err := supervisor.EndLeftovers(ctx, l.data, startOrder, others)
	if err != nil {
		return fmt.Errorf("end what an earlier supervisor left: %w", err)
	}
	if len(ended) > 0 {
		klog.FromContext(ctx).Info("Took over from a supervisor that is gone", "restarting", ended)
	}
	if _, err := daemon.SdNotify(true, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("tell systemd that the service runs: %w", err)
	}
	return nil
}

func prepareFolders(l layout, s settings) error {
	dirs := []string{l.run, l.logDir(), l.rootDir()}
	if s.OwnContainerd {
		dirs = append(dirs, l.containerdRoot(), l.containerdDir())
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("prepare the node's folders: %w", err)
		}
	}
	if !s.OwnContainerd {
		return nil
	}
	return files.Replace(l.containerdConfig(), []byte(containerdConfig(l)), 0o600)
}

func containerdConfig(l layout) string {
	return `# Written by keelson join.
version = 2
root = ` + strconv.Quote(l.containerdRoot()) + `
state = ` + strconv.Quote(filepath.Join(l.containerdDir(), "state")) + `
disabled_plugins = ["io.containerd.grpc.v1.cri"]

[grpc]
  address = ` + strconv.Quote(l.containerdSocket()) + `

[debug]
  level = "warn"
`
}
