package local

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/cluster/internal/process"
	"github.com/keelson-dev/keelson/cluster/pki"
	"github.com/keelson-dev/keelson/cluster/supervisor"
)

var nodeIP = netip.MustParseAddr("198.18.0.2")

var compareAddr = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// quiet is a machine on which every port is free and nothing runs.
func quiet() surroundings {
	return surroundings{
		hostname: "Host-1",
		detectIP: func() (netip.Addr, error) { return nodeIP, nil },
		free:     func(netip.Addr, int) bool { return true },
		choose:   func(netip.Addr) (int, error) { return 40000, nil },
	}
}

func layoutIn(data string) Layout { return Layout{Data: data, Run: "/run/keelson"} }

func settings() Settings {
	s, err := decideSettings(nil, *NewOptions(), layoutIn("/data"), quiet())
	if err != nil {
		panic(err)
	}
	return s
}

func TestDecideSettings(t *testing.T) {
	first := Settings{
		NodeName: "host-1", NodeIP: nodeIP, ServiceCIDR: "10.254.0.0/16", ClusterCIDR: "10.244.0.0/16", RunDir: "/run/keelson",
		Ports: preferredPorts, ContainerdAddress: "/run/keelson/containerd/containerd.sock", OwnContainerd: true,
	}
	with := func(change func(*Settings)) Settings { s := first; change(&s); return s }
	tests := map[string]struct {
		old     *Settings
		options func(*Options)
		machine func(*surroundings)
		want    Settings
		wantErr []string
	}{
		"the first start takes the host's name and a containerd of its own": {want: first},
		"the machine's containerd is used where it answers": {
			machine: func(m *surroundings) { m.containerd = true },
			want:    with(func(s *Settings) { s.ContainerdAddress, s.OwnContainerd = machineSocket, false }),
		},
		"a containerd that appears later does not take the containers away": {
			old: &first, machine: func(m *surroundings) { m.containerd = true }, want: first,
		},
		"the machine's containerd that ended meanwhile is asked for": {
			old:     new(with(func(s *Settings) { s.OwnContainerd, s.ContainerdAddress = false, machineSocket })),
			wantErr: []string{"systemctl start containerd"},
		},
		"a port that somebody took is replaced and the others stay": {
			old: &first,
			machine: func(m *surroundings) {
				m.free = func(_ netip.Addr, port int) bool { return port != preferredPorts.Etcd }
			},
			want: with(func(s *Settings) { s.Ports.Etcd = 40000 }),
		},
		"the ports that Pods reach are tried on the node's address and the others on loopback": {
			machine: func(m *surroundings) {
				m.free = func(a netip.Addr, port int) bool {
					return (a == nodeIP) == slices.Contains([]int{preferredPorts.APIServer, preferredPorts.Gateway, preferredPorts.NodeServer}, port)
				}
			},
			want: first,
		},
		"a cluster of a version without a gateway gets ports for it and for the node's API": {
			old: new(with(func(s *Settings) {
				s.Ports.Gateway, s.Ports.GatewayHealth, s.Ports.GatewayMetrics, s.Ports.NodeServer = 0, 0, 0, 0
			})), want: first,
		},
		"what the Service kubernetes leads to is remembered": {
			old: new(with(func(s *Settings) { s.KubernetesService = "apiserver" })), want: with(func(s *Settings) { s.KubernetesService = "apiserver" }),
		},
		"what the Service kubernetes leads to can be changed": {
			old:     new(with(func(s *Settings) { s.KubernetesService = "apiserver" })),
			options: func(o *Options) { o.KubernetesService = "gateway" }, want: with(func(s *Settings) { s.KubernetesService = "gateway" }),
		},
		"a new address of the machine is taken up": {
			old: &first,
			machine: func(m *surroundings) {
				m.detectIP = func() (netip.Addr, error) { return netip.MustParseAddr("10.0.0.9"), nil }
			},
			want: with(func(s *Settings) { s.NodeIP = netip.MustParseAddr("10.0.0.9") }),
		},
		"flags win over what is found": {
			options: func(o *Options) { o.NodeName, o.NodeIP = "a", "10.0.0.1" },
			machine: func(m *surroundings) {
				m.detectIP = func() (netip.Addr, error) { return netip.Addr{}, errors.New("none") }
			},
			want: with(func(s *Settings) { s.NodeName, s.NodeIP = "a", netip.MustParseAddr("10.0.0.1") }),
		},
		"flags that contradict the running cluster are all refused": {
			old:     &first,
			options: func(o *Options) { o.NodeName, o.ServiceCIDR, o.RunDir = "b", "10.1.0.0/16", "/run/b" },
			wantErr: []string{"--run-dir: the cluster was made with /run/keelson, not /run/b", "--node-name: the cluster was made with host-1, not b", "--service-cidr: the cluster was made with 10.254.0.0/16"},
		},
		"a host name that cannot be a node's name is said with the flag to use": {
			machine: func(m *surroundings) { m.hostname = "my_host" }, wantErr: []string{`"my_host"`, "--node-name"},
		},
		"an address that this machine does not have": {
			machine: func(m *surroundings) {
				m.free = func(netip.Addr, int) bool { return false }
				m.choose = func(netip.Addr) (int, error) { return 0, errors.New("cannot assign requested address") }
			},
			options: func(o *Options) { o.NodeIP = "9.9.9.9" }, wantErr: []string{"--node-ip", "9.9.9.9"},
		},
		"the API server's port and flags are remembered": {
			options: func(o *Options) { o.APIServerPort, o.APIServerArgs = 7443, []string{"v=4", "--event-ttl=2h"} },
			want:    with(func(s *Settings) { s.Ports.APIServer, s.APIServerArgs = 7443, []string{"--v=4", "--event-ttl=2h"} }),
		},
		"flags of the API server stay until others come": {
			old: new(with(func(s *Settings) { s.APIServerArgs = []string{"--v=4"} })), want: with(func(s *Settings) { s.APIServerArgs = []string{"--v=4"} }),
		},
		"an empty flag of the API server takes all back": {
			old:     new(with(func(s *Settings) { s.APIServerArgs = []string{"--v=4"} })),
			options: func(o *Options) { o.APIServerArgs = []string{""} }, want: with(func(s *Settings) { s.APIServerArgs = []string{} }),
		},
		"another port for a cluster that is there": {
			old: &first, options: func(o *Options) { o.APIServerPort = 7443 },
			wantErr: []string{"--apiserver-port: the cluster has 6443, not 7443: run 'keelson down' first"},
		},
		"a port of the API server that somebody has": {
			machine: func(m *surroundings) { m.free = func(_ netip.Addr, port int) bool { return port != 7443 } },
			options: func(o *Options) { o.APIServerPort = 7443 }, wantErr: []string{"--apiserver-port: cannot listen on 198.18.0.2:7443"},
		},
		"a machine without an address": {
			machine: func(m *surroundings) {
				m.detectIP = func() (netip.Addr, error) { return netip.Addr{}, errors.New("give one with --node-ip") }
			},
			wantErr: []string{"--node-ip"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o, m := *NewOptions(), quiet()
			if tt.options != nil {
				tt.options(&o)
			}
			if tt.machine != nil {
				tt.machine(&m)
			}
			got, err := decideSettings(tt.old, o, layoutIn("/data"), m)
			if len(tt.wantErr) > 0 {
				for _, want := range tt.wantErr {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("error %v lacks %q", err, want)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, compareAddr); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSettingsSurviveTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.json")
	if _, ok, err := readSettings(path); ok || err != nil {
		t.Errorf("no file: %v, %v", ok, err)
	}
	want := settings()
	if err := want.write(path); err != nil {
		t.Fatal(err)
	}
	got, ok, err := readSettings(path)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if diff := cmp.Diff(want, got, compareAddr); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(path, []byte(`{"nodeName": `), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readSettings(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestOptionsAreValidatedAllAtOnce(t *testing.T) {
	o := Options{RunDir: "run", NodeName: "A", NodeIP: "::1", ServiceCIDR: "10.0.0.1/8", ClusterCIDR: "x", KubernetesService: "both"}
	err := o.Validate()
	for _, want := range []string{
		"--data-dir: must not be empty", `--run-dir: "run" is not an absolute path`, `--node-name: "A"`, `--node-ip: "::1" has no IPv4 address`,
		"--service-cidr: \"10.0.0.1/8\" has bits set beyond its prefix: write 10.0.0.0/8", `--cluster-cidr: "x"`, "--timeout", `--kubernetes-service: "both"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
	o = *NewOptions()
	if err := o.Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	o.RunDir = "/run/" + strings.Repeat("x", maxRunDir)
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "--run-dir: has") {
		t.Errorf("a run directory too long for sockets: %v", err)
	}
	o = *NewOptions()
	o.ServiceCIDR = "10.244.0.0/24"
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "overlap") {
		t.Errorf("overlap: %v", err)
	}
}

func testPlan(s Settings) plan {
	return plan{
		layout: layoutIn("/data"), settings: s, store: pki.NewStore("/data/pki", clock.RealClock{}),
		programs: findPrograms("/opt/bin/keelson", func(string) string { return "" }), memory: 16 << 30,
	}
}

func TestCommandLines(t *testing.T) {
	tests := map[string]struct {
		change   func(*Settings)
		program  string
		has      []string
		hasNot   []string
		wantPath string
	}{
		"etcd listens on loopback only and asks for certificates": {
			program: nameEtcd, wantPath: "/opt/bin/k8s/etcd",
			has:    []string{"--listen-client-urls=https://127.0.0.1:12379", "--client-cert-auth", "--peer-client-cert-auth"},
			hasNot: []string{"--unsafe-no-fsync", "0.0.0.0"},
		},
		"etcd skips fsync when told to": {
			program: nameEtcd, wantPath: "/opt/bin/k8s/etcd", change: func(s *Settings) { s.NoFsync = true }, has: []string{"--unsafe-no-fsync"},
		},
		"the API server listens on the node's address alone, where Pods reach it": {
			program: nameAPIServer, wantPath: "/opt/bin/k8s/kube-apiserver",
			has: []string{
				"--bind-address=198.18.0.2", "--advertise-address=198.18.0.2", "--anonymous-auth=false", "--authorization-mode=RBAC",
				"--requestheader-client-ca-file=/data/pki/front-proxy-ca.crt", "--requestheader-allowed-names=front-proxy-client",
			},
			hasNot: []string{"0.0.0.0", "--service-cluster-ip-range=10.254.0.0/16"},
		},
		"the API server gets what its owner wants instead of what up would give it": {
			program: nameAPIServer, wantPath: "/opt/bin/k8s/kube-apiserver",
			change: func(s *Settings) { s.APIServerArgs = []string{"--allow-privileged=false", "--v=4"} },
			has:    []string{"--allow-privileged=false", "--v=4", "--profiling=false"}, hasNot: []string{"--allow-privileged=true"},
		},
		"the Service kubernetes leads to the API server when told so": {
			program: nameManager, wantPath: "/opt/bin/keelson-manager", change: func(s *Settings) { s.KubernetesService = behindAPIServer },
			has: []string{"--kubernetes-service-endpoints=198.18.0.2:6443"},
		},
		"the gateway listens on the node's address alone, with an identity of its own": {
			program: nameGateway, wantPath: "/opt/bin/keelson-gateway",
			has: []string{
				"--bind-address=198.18.0.2", "--secure-port=6444", "--kubeconfig=/data/config/gateway-client.kubeconfig",
				"--tls-cert-file=/data/pki/gateway.pem", "--client-ca-file=/data/pki/cluster-ca.crt", "--health-bind-address=127.0.0.1:18082",
			},
			hasNot: []string{"0.0.0.0"},
		},
		"the manager serves on loopback and leads Pods to the gateway": {
			program: nameManager, wantPath: "/opt/bin/keelson-manager",
			has: []string{
				"--kubernetes-service-endpoints=198.18.0.2:6444", "--webhook-bind-address=127.0.0.1", "--webhook-url=https://localhost:19443",
				"--service-cidr=10.254.0.0/16", "--cluster-cidr=10.244.0.0/16", "--kubeconfig=/data/config/manager.kubeconfig",
			},
		},
		"the node is told its identity and its containerd": {
			program: nameNode, wantPath: "/opt/bin/keelson-node",
			has: []string{
				"--node-name=host-1", "--node-ip=198.18.0.2", "--containerd-address=/run/keelson/containerd/containerd.sock",
				"--server-address=198.18.0.2", "--server-port=10250", "--tls-cert-file=/data/pki/node-server.pem", "--client-ca-file=/data/pki/cluster-ca.crt",
				"--root-dir=/data/node", "--pause-binary=/opt/bin/pause", "--logger-binary=/opt/bin/keelson-logger", "--config=/data/node.yaml",
				"--image-dir=/data/images", "--cluster-dns=10.254.0.10",
			},
		},
		"without DNS in the cluster Pods keep the machine's": {
			program: nameNode, wantPath: "/opt/bin/keelson-node", change: func(s *Settings) { s.NoDNS = true }, hasNot: []string{"--cluster-dns"},
		},
		"the address of DNS is in the primary range of Services": {
			program: nameNode, wantPath: "/opt/bin/keelson-node", change: func(s *Settings) { s.ServiceCIDR = "fd00:10:96::/112,10.96.0.0/16" },
			has: []string{"--cluster-dns=fd00:10:96::a"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := settings()
			if tt.change != nil {
				tt.change(&s)
			}
			c := testPlan(s).commands()[tt.program]
			if c.Path != tt.wantPath {
				t.Errorf("path %s, want %s", c.Path, tt.wantPath)
			}
			for _, want := range tt.has {
				if !slices.Contains(c.Args, want) {
					t.Errorf("no %s in %q", want, c.Args)
				}
			}
			for _, not := range tt.hasNot {
				if strings.Contains(strings.Join(c.Args, " "), not) {
					t.Errorf("%s in %q", not, c.Args)
				}
			}
		})
	}
}

func TestComponentsComeInStartOrder(t *testing.T) {
	for name, own := range map[string]bool{"with a containerd of our own": true, "with the machine's": false} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.OwnContainerd = own
			p := testPlan(s)
			var got []string
			for _, c := range p.components(newProbes(p.store, s)) {
				got = append(got, c.Name)
				for _, d := range c.DependsOn {
					if !slices.Contains(got, d) {
						t.Errorf("%s depends on %s, which comes later", c.Name, d)
					}
				}
			}
			want := slices.Clone(startOrder)
			if !own {
				want = want[1:]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("components (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCredentialsAreWrittenOnceAndWork(t *testing.T) {
	l := layoutIn(t.TempDir())
	store := pki.NewStore(l.pkiDir(), clock.RealClock{})
	first, err := ensureCredentials(store, l, settings())
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 13 { // three authorities, ten certificates
		t.Errorf("issued %v", first)
	}
	if again, err := ensureCredentials(store, l, settings()); err != nil || len(again) > 0 {
		t.Errorf("the second time issued %v, %v", again, err)
	}
	moved := settings()
	moved.NodeIP = netip.MustParseAddr("10.0.0.9")
	issued, err := ensureCredentials(store, l, moved)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]pki.Issued{
		{Name: certAPIServer, Reason: "its names or addresses changed"}, {Name: certGateway, Reason: "its names or addresses changed"},
		{Name: certNodeServer, Reason: "its names or addresses changed"},
	}, issued); diff != "" {
		t.Errorf("after a move issued (-want +got):\n%s", diff)
	}
	for file, host := range map[string]string{
		l.AdminKubeconfig(): "https://10.0.0.9:6443", l.kubeconfig(certManager): "https://10.0.0.9:6443", l.kubeconfig(certNode): "https://10.0.0.9:6443",
		l.kubeconfig(certGatewayClient): "https://10.0.0.9:6443", l.Kubeconfig(): "https://10.0.0.9:6444",
	} {
		config, err := clientcmd.BuildConfigFromFlags("", file)
		if err != nil {
			t.Fatal(err)
		}
		if config.Host != host {
			t.Errorf("%s leads to %s", file, config.Host)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
}

func TestAForeignFolderIsNotTakenOver(t *testing.T) {
	l := layoutIn(t.TempDir())
	if err := l.checkFresh(); err != nil {
		t.Errorf("an empty folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(l.Data, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.checkFresh(); err != nil {
		t.Errorf("a folder with other files: %v", err)
	}
	if err := os.Mkdir(filepath.Join(l.Data, "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.checkFresh(); err == nil || !strings.Contains(err.Error(), "--data-dir") || !strings.Contains(err.Error(), "/config") {
		t.Errorf("a folder with a config folder of somebody else: %v", err)
	}
}

func TestRemoveFilesLeavesWhatIsNotOurs(t *testing.T) {
	root := t.TempDir()
	l := Layout{Data: filepath.Join(root, "data"), Run: filepath.Join(root, "run")}
	foreign := filepath.Join(l.Data, "notes.txt")
	for _, path := range append(append(l.owned(), l.ownedRun()...), foreign) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := downer{layout: l, say: func(string, ...any) {}}
	for range 2 { // the second time finds nothing and is content
		if err := d.removeFiles(); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(l.Data)
	if err != nil || len(entries) != 1 || entries[0].Name() != "notes.txt" {
		t.Errorf("left: %v, %v", entries, err)
	}
	if _, err := os.Stat(l.Run); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the run directory is still there: %v", err)
	}
}

func TestOneClusterPerMachine(t *testing.T) {
	run := t.TempDir()
	first := Layout{Data: t.TempDir(), Run: run}
	second := Layout{Data: t.TempDir(), Run: run}
	claim := func(l Layout) error { return (&upper{layout: l}).claimMachine() }
	if err := errors.Join(claim(first), claim(first)); err != nil {
		t.Fatal(err)
	}
	if err := settings().write(first.settingsFile()); err != nil {
		t.Fatal(err)
	}
	if err := claim(second); err == nil || !strings.Contains(err.Error(), "keelson down --data-dir "+first.Data) {
		t.Errorf("second cluster: %v", err)
	}
	if err := errors.Join(settings().write(first.settingsCopy()), os.Remove(first.settingsFile())); err != nil {
		t.Fatal(err)
	}
	if err := claim(second); err == nil || !strings.Contains(err.Error(), "keelson down --data-dir "+first.Data) {
		t.Errorf("while the first runs on without its files: %v", err)
	}
	if err := os.Remove(first.settingsCopy()); err != nil {
		t.Fatal(err)
	}
	if err := claim(second); err != nil {
		t.Errorf("after the first is gone: %v", err)
	}
}

func TestDownWithoutACluster(t *testing.T) {
	for name, dir := range map[string]string{
		"no folder": filepath.Join(t.TempDir(), "none"), "an empty folder": t.TempDir(),
	} {
		t.Run(name, func(t *testing.T) {
			o := *NewOptions()
			o.DataDir, o.RunDir = dir, t.TempDir()
			var out strings.Builder
			if err := Down(t.Context(), o, &out); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(out.String(), "Nothing to end") {
				t.Errorf("printed %q", out.String())
			}
		})
	}
}

func TestProgress(t *testing.T) {
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	ready := new(at(1))
	state := supervisor.State{
		Supervisor: process.Identity{PID: 1}, StartedAt: start,
		Components: []supervisor.ComponentState{
			{Name: "etcd", Phase: supervisor.Ready, FirstReady: ready},
			{Name: "kube-apiserver", Phase: supervisor.Starting, Message: "connection refused", Since: at(1)},
			{Name: "keelson-node", Phase: supervisor.Waiting, Message: "waits for kube-apiserver"},
		},
	}
	crashed := state
	crashed.Components = slices.Clone(state.Components)
	crashed.Components[1] = supervisor.ComponentState{Name: "kube-apiserver", Phase: supervisor.BackingOff, Message: "ended: exit status 1", Starts: 3}
	var p progress
	for _, step := range []struct {
		name  string
		state supervisor.State
		alive bool
		at    int
		want  []string
	}{
		{name: "nothing yet", at: 0},
		{name: "what is ready is said once", state: state, alive: true, at: 1, want: []string{"  etcd             ready after 1.0s"}},
		{name: "and not again", state: state, alive: true, at: 2},
		{name: "what takes long is explained", state: state, alive: true, at: 6, want: []string{"  waiting for kube-apiserver: not ready: connection refused (for 5s)"}},
		{name: "not all the time", state: state, alive: true, at: 7},
		{name: "a crash loop shows its reason", state: crashed, alive: true, at: 12, want: []string{"  waiting for kube-apiserver: ended: exit status 1; starts again soon (started 3 times)"}},
		{name: "no supervisor", at: 20, want: []string{"  waiting for the supervisor to start"}},
	} {
		got := p.lines(step.state, step.alive, at(step.at))
		if diff := cmp.Diff(step.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestUnescapeMount(t *testing.T) {
	if got := unescapeMount(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("got %q", got)
	}
}

func TestFirstFailure(t *testing.T) {
	tests := map[string]struct{ body, want string }{
		"a verbose answer": {body: "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\n", want: "[-]etcd failed: reason withheld"},
		"a plain answer":   {body: "not ready\nmore", want: "not ready"},
		"no answer":        {},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := firstFailure(tt.body); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPoolIsApartFromMachines(t *testing.T) {
	tests := map[string]struct {
		pool, wantErr string
	}{
		"a pool beside the nodes":           {pool: "198.19.0.200-198.19.0.220"},
		"the address of this machine":       {pool: "198.19.0.1-198.19.0.1", wantErr: "198.19.0.1 is the address of a machine"},
		"a pool that nodes make way for":    {pool: "198.19.0.2-198.19.0.3"},
		"a pool that leaves nodes no place": {pool: "198.19.0.2-198.19.0.254", wantErr: "leaves no address"},
		"nonsense":                          {pool: "many", wantErr: "neither a range"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := Settings{
				NodeIP: netip.MustParseAddr("198.19.0.1"), NodeNetwork: netip.MustParsePrefix("198.19.0.0/24"), LoadBalancerPool: []string{tt.pool},
			}
			s.addNode("a", netip.Addr{})
			err := s.checkPool()
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error %v, want %q", err, tt.wantErr)
			}
		})
	}
}
