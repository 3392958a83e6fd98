package masters

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/keelson-dev/keelson/cluster/nodes"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

const (
	// timeout bounds every wait: generous, since no figure here is a measurement.
	timeout = 3 * time.Minute
	// home is what the example says of every master, busybox an image of the test.
	home    = nodes.LibDir + "/control-plane"
	socket  = nodes.RunDir + "/containerd/containerd.sock"
	busybox = "keelson.dev/test/busybox:v1"
)

// names are those of the masters; each has the address after the one before.
var names = []string{"m1", "m2", "m3"}

// lab is three machines without a cluster, and the files that prepare.sh wrote for them.
type lab struct {
	t         *testing.T
	root, dir string
	options   nodes.Options
	machines  *nodes.Machine
	nodes     map[string]nodes.Node
}

func newLab(t *testing.T) *lab {
	t.Helper()
	root, err := filepath.Abs("../../..")
	must(t, err)
	dir, err := os.MkdirTemp("", "keelson-masters-")
	must(t, err)
	l := &lab{t: t, root: root, dir: dir, nodes: map[string]nodes.Node{}}
	l.options = nodes.Options{Dir: l.file("pins"), Network: netip.MustParsePrefix("198.19.0.0/24"), CgroupRoot: "/keelson-masters"}
	l.machines = nodes.New(l.options)
	address := l.options.Gateway()
	for _, name := range names {
		address = address.Next()
		l.nodes[name] = nodes.Node{Name: name, Address: address, Data: l.file("disk-" + name)}
	}
	t.Cleanup(l.close)
	must(t, l.machines.EnsureNetwork())
	return l
}

func (l *lab) close() {
	ctx := context.Background()
	var errs []error
	for name := range l.nodes {
		errs = append(errs, l.machines.Remove(ctx, name))
	}
	must(l.t, errors.Join(append(errs, l.machines.RemoveNetwork(ctx), os.RemoveAll(l.dir))...))
}

func (l *lab) file(name string) string { return filepath.Join(l.dir, name) }

// prepare runs the example's script and copies to each master what is for it, with the
// images of everything.
func (l *lab) prepare() {
	l.t.Helper()
	args := []string{l.file("out"), l.options.Gateway().String()}
	for _, name := range names {
		args = append(args, name+"="+l.nodes[name].Address.String())
	}
	l.run("", filepath.Join(l.root, "examples/high-availability/prepare.sh"), args...)
	must(l.t, imagebuild.WriteArchive(l.file("images.tar"), runtime.GOARCH, l.images()))
	for _, name := range names {
		disk := filepath.Join(l.nodes[name].Data, "lib/control-plane")
		must(l.t, os.MkdirAll(filepath.Dir(disk), 0o755))
		must(l.t, os.CopyFS(disk, os.DirFS(l.file("out/"+name))))
		must(l.t, os.Mkdir(filepath.Join(disk, "images"), 0o755))
		must(l.t, os.Link(l.file("images.tar"), filepath.Join(disk, "images/all.tar")))
	}
}

// images are what the example's manifests name, made of the programs of this folder.
func (l *lab) images() map[string]imagebuild.Spec {
	l.t.Helper()
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join(l.root, "bin/k8s")
	}
	program := func(inImage, path string) imagebuild.Spec {
		return imagebuild.Spec{Files: map[string]imagebuild.File{inImage: {HostPath: path}}, Dirs: []string{"/tmp"}, Config: v1.Config{Env: []string{"PATH=/usr/local/bin"}}}
	}
	box, err := imagebuild.Busybox()
	must(l.t, err)
	return map[string]imagebuild.Spec{
		"registry.k8s.io/etcd:3.7.0-0":           program("/usr/local/bin/etcd", filepath.Join(assets, "etcd")),
		"registry.k8s.io/kube-apiserver:v1.37.1": program("/usr/local/bin/kube-apiserver", filepath.Join(assets, "kube-apiserver")),
		"keelson.dev/keelson-manager:v1":         program("/keelson-manager", filepath.Join(l.root, "bin/keelson-manager")),
		"keelson.dev/keelson-gateway:v1":         program("/keelson-gateway", filepath.Join(l.root, "bin/keelson-gateway")),
		busybox:                                  box,
	}
}

// switchOn starts a machine, and on it containerd and the agent, as its boot does.
func (l *lab) switchOn(name string) {
	l.t.Helper()
	node := l.nodes[name]
	node.Boot++
	l.nodes[name] = node
	must(l.t, l.machines.Ensure(l.t.Context(), node))
	l.plug()
	config := l.file("containerd-" + name + ".toml")
	must(l.t, os.WriteFile(config, fmt.Appendf(nil, "version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = %q\n[debug]\n  level = \"warn\"\n",
		filepath.Join(node.Data, "containerd"), filepath.Dir(socket), socket), 0o600))
	l.start(name, "containerd", "--config", config)
	// The disk and the memory are those of the machine that the tests run on.
	l.start(name, filepath.Join(l.root, "bin/keelson-node"), "--config="+home+"/node.yaml", "--containerd-address="+socket,
		"--cgroup-root="+l.options.Cgroup(name), "--eviction-hard=memory.available<10Mi", "--image-gc-high-threshold=100")
}

// switchOff takes the power from a machine.
func (l *lab) switchOff(name string) {
	l.t.Helper()
	must(l.t, l.machines.Remove(l.t.Context(), name))
}

// plug connects the wires of all machines.
func (l *lab) plug() {
	l.t.Helper()
	var there []nodes.Node
	for _, node := range l.nodes {
		if node.Boot > 0 {
			there = append(there, node)
		}
	}
	must(l.t, l.machines.ApplyTraffic(l.t.Context(), there))
}

// start runs a program on a machine until that loses its power.
func (l *lab) start(name, program string, args ...string) {
	l.t.Helper()
	log, err := os.OpenFile(l.logOf(name, program), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(l.t, err)
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Setsid: true}
	must(l.t, errors.Join(l.machines.Enter(name, cmd.Start), log.Close()))
	go func() { _ = cmd.Wait() }() // it is killed with its machine
}

func (l *lab) logOf(name, program string) string {
	return l.file(filepath.Base(program) + "-" + name + ".log")
}

// dumpLogs prints the ends of all logs, of the machines and of their Pods.
func (l *lab) dumpLogs() {
	files, _ := filepath.Glob(l.file("*.log"))
	pods, _ := filepath.Glob(l.file("disk-*/log/pods/kube-system_*/*/*.log"))
	for _, file := range append(files, pods...) {
		text, _ := os.ReadFile(file)
		l.t.Logf("==> %s\n%s", strings.TrimPrefix(file, l.dir), text[max(0, len(text)-2500):])
	}
}

// run runs a program here, and ends the test if it fails.
func (l *lab) run(stdin, program string, args ...string) string {
	l.t.Helper()
	out, err := l.try(stdin, program, args...)
	if err != nil {
		l.t.Fatalf("%s %v: %v\n%s", filepath.Base(program), args, err, out)
	}
	return out
}

func (l *lab) try(stdin, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// kubectl asks through the balancer, with one of the administrator's files: admin for the
// API servers, plain for the gateways.
func (l *lab) kubectl(as, stdin string, args ...string) (string, error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join(l.root, "bin/k8s")
	}
	return l.try(stdin, filepath.Join(assets, "kubectl"), append([]string{"--kubeconfig", l.file("out/" + as + ".kubeconfig"), "--request-timeout=10s"}, args...)...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until check succeeds, and says how long that took.
func (l *lab) eventually(what string, check func() error) {
	l.t.Helper()
	begin := time.Now()
	for {
		err := check()
		if err == nil {
			l.t.Logf("%s after %.1f s", what, time.Since(begin).Seconds())
			return
		}
		if time.Since(begin) > timeout {
			l.t.Fatalf("%s: not within %s: %v", what, timeout, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
