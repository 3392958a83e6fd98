package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/cluster/pki"
	"github.com/keelson-dev/keelson/test/env/cluster"
	"github.com/keelson-dev/keelson/test/env/machine"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

// stock is a one-node cluster of stock Kubernetes and Debian's containerd with the CRI
// plug-in and a bridge, started with the flags that `keelson up` gives to the parts
// that both have. Whatever it leaves ends with the machine.
type stock struct {
	programs map[string]string // paths by name
	pause    string
	dir      string
	store    *pki.Store
	registry *imagebuild.Registry
	children []*child
	version  string
}

// child is a started program.
type child struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}
}

// cniPlugins is where Debian's package containernetworking-plugins puts them.
const cniPlugins = "/usr/lib/cni"

// pauseImage is the sandbox of every Pod, made of the project's own pause program.
const pauseImage = "test/pause:v1"

func newStock(root, folder string) (*stock, error) {
	s := &stock{programs: map[string]string{"containerd": "containerd"}, pause: filepath.Join(root, "bin/pause")}
	for dir, names := range map[string][]string{
		cluster.AssetsDir(root): {"etcd", "kube-apiserver"},
		folder:                  {"kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler"},
	} {
		for _, name := range names {
			s.programs[name] = filepath.Join(dir, name)
		}
	}
	needed := []string{s.pause, filepath.Join(cniPlugins, "bridge"), filepath.Join(cniPlugins, "host-local")}
	for name, path := range s.programs {
		if name != "containerd" {
			needed = append(needed, path)
		}
	}
	for _, path := range needed {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("%w: run `make build k8s stock` and `apt-get install containernetworking-plugins`", err)
		}
	}
	out, err := exec.Command(s.programs["kubelet"], "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("kubelet --version: %w", err)
	}
	s.version = "stock " + strings.TrimSpace(string(out))
	if s.dir, err = os.MkdirTemp("", "keelson-bench-stock-"); err != nil {
		return nil, err
	}
	if s.registry, err = imagebuild.StartRegistry("127.0.0.1:0", nil); err != nil {
		return nil, err
	}
	if err := cluster.PushImages(s.registry, root); err != nil {
		return nil, err
	}
	return s, s.pushPause()
}

func (s *stock) pushPause() error {
	image, err := imagebuild.Build(imagebuild.Spec{
		Files:  map[string]imagebuild.File{"/pause": {HostPath: s.pause}},
		Config: v1.Config{Entrypoint: []string{"/pause"}},
	}, runtime.GOARCH)
	if err != nil {
		return err
	}
	_, _, err = s.registry.Push(context.Background(), image, pauseImage)
	return err
}

func (s *stock) Name() string             { return s.version }
func (s *stock) Group() string            { return "" }
func (s *stock) Image(name string) string { return s.registry.Host + "/" + name }

func (s *stock) Config() (*rest.Config, error) {
	return &rest.Config{Host: apiServerURL, TLSClientConfig: rest.TLSClientConfig{
		CAFile: s.store.AuthorityFile(clusterCA), CertFile: s.store.LeafFile(adminName), KeyFile: s.store.LeafFile(adminName),
	}}, nil
}

// Up starts the parts in the order in which they need each other.
func (s *stock) Up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	node, err := netip.ParseAddr(machine.NodeIP)
	if err != nil {
		return err
	}
	s.store = pki.NewStore(filepath.Join(s.dir, "pki"), clock.RealClock{})
	if _, err := s.store.Ensure([]string{clusterCA, etcdCA}, []string{serviceAccount}, stockLeaves(node)); err != nil {
		return err
	}
	if err := s.writeConfigs(); err != nil {
		return err
	}
	config, err := s.Config()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	for _, name := range []string{"containerd", "etcd", "kube-apiserver"} {
		if err := s.start(name); err != nil {
			return err
		}
	}
	err = s.until(ctx, "the API server is ready", func(ctx context.Context) error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"} {
		if err := s.start(name); err != nil {
			return err
		}
	}
	if err := s.until(ctx, "the node is ready", nodeReady(client)); err != nil {
		return err
	}
	return s.prepareNamespace(ctx, client)
}

// prepareNamespace makes the namespace of the benchmark and waits for what a Pod in it
// needs to be admitted.
func (s *stock) prepareNamespace(ctx context.Context, client kubernetes.Interface) error {
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	return s.until(ctx, "the namespace has its service account", func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

func nodeReady(client kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		node, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(node.Spec.Taints) > 0 {
			return fmt.Errorf("node has taints %v", node.Spec.Taints)
		}
		i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
		if i < 0 || node.Status.Conditions[i].Status != corev1.ConditionTrue {
			return fmt.Errorf("node has conditions %v", node.Status.Conditions)
		}
		return nil
	}
}

// until asks again until check returns nil, or a program has ended.
func (s *stock) until(ctx context.Context, what string, check func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		for _, c := range s.children {
			select {
			case <-c.ended:
				return false, fmt.Errorf("%s has ended: %s", c.name, c.cmd.ProcessState)
			default:
			}
		}
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait until %s: %w", what, errors.Join(err, last))
	}
	return nil
}

func (s *stock) start(name string) error {
	log, err := os.Create(s.logFile(name))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.programs[name], s.args(name)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	c := &child{name: name, cmd: cmd, ended: make(chan struct{})}
	s.children = append(s.children, c)
	go func() {
		_ = cmd.Wait() // the state is read when somebody asks
		close(c.ended)
	}()
	return nil
}

func (s *stock) logFile(name string) string { return filepath.Join(s.dir, name+".log") }

// dumpNode prints the node's taints and conditions, where the API server still answers.
func (s *stock) dumpNode() {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if s.store == nil {
		return
	}
	config, err := s.Config()
	if err != nil {
		return
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return
	}
	node, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		fmt.Fprintf(os.Stderr, "==> node: %v\n", err)
		return
	}
	fmt.Fprintf(os.Stderr, "==> node\ntaints %v\n", node.Spec.Taints)
	for _, c := range node.Status.Conditions {
		fmt.Fprintf(os.Stderr, "%s %s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
}

// stopTimeout is how long a program has to end by itself.
const stopTimeout = 10 * time.Second

// Down ends the programs, the last one first; containers end with the machine.
func (s *stock) Down() error {
	for _, c := range slices.Backward(s.children) {
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-c.ended:
		case <-time.After(stopTimeout):
			_ = c.cmd.Process.Kill()
			<-c.ended
		}
	}
	// The kubelet mounts its folder over itself.
	if err := unix.Unmount(s.kubeletDir(), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount the kubelet's folder: %w", err)
	}
	return errors.Join(s.registry.Close(), os.RemoveAll(s.dir))
}

// DumpLogs prints why the node may not take Pods, and the end of every program's log.
func (s *stock) DumpLogs() {
	s.dumpNode()
	const tail = 6000
	for _, c := range s.children {
		text, err := os.ReadFile(s.logFile(c.name))
		if err != nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "==> %s\n%s\n", c.name, text[max(0, len(text)-tail):])
	}
}
