package local

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/cluster/nodes"
	"github.com/keelson-dev/keelson/cluster/supervisor"
)

// elsewhere is a quiet machine in one network.
func elsewhere() surroundings {
	m := quiet()
	m.networks = func() ([]netip.Prefix, error) { return []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, nil }
	return m
}

func withNodes(n int) Options {
	o := *NewOptions()
	o.Nodes = &n
	return o
}

// three are the settings of a cluster of three nodes.
func three() Settings {
	s, err := decideSettings(nil, withNodes(3), layoutIn("/data"), elsewhere())
	if err != nil {
		panic(err)
	}
	return s
}

func TestSettingsOfSeveralNodes(t *testing.T) {
	s := three()
	want := []NodeSettings{
		{Name: "host-1-1", Address: netip.MustParseAddr("198.19.0.2"), Boot: 1},
		{Name: "host-1-2", Address: netip.MustParseAddr("198.19.0.3"), Boot: 1},
		{Name: "host-1-3", Address: netip.MustParseAddr("198.19.0.4"), Boot: 1},
	}
	if diff := cmp.Diff(want, s.Nodes, compareAddr); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if s.NodeIP.String() != "198.19.0.1" || s.NodeNetwork.String() != "198.19.0.0/24" || s.NodeName != "host-1" {
		t.Errorf("settings %+v", s)
	}
	// They are read as they were written, and decided the same when the cluster starts again.
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var read Settings
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	again, err := decideSettings(&read, *NewOptions(), layoutIn("/data"), elsewhere())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, again, compareAddr); diff != "" {
		t.Errorf("after a start (-want +got):\n%s", diff)
	}
}

func TestSettingsOfOneNodeSayNothingOfNodes(t *testing.T) {
	one, err := decideSettings(nil, withNodes(1), layoutIn("/data"), quiet())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(settings(), one, compareAddr); diff != "" {
		t.Errorf("--nodes 1 (-without +with):\n%s", diff)
	}
	data, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"nodes", "nodeNetwork", "generation", "registryConfigDir"} {
		if strings.Contains(string(data), `"`+key+`"`) {
			t.Errorf("settings hold %q: %s", key, data)
		}
	}
}

func TestSettingsOfSeveralNodesAreRefused(t *testing.T) {
	tests := map[string]struct {
		old     *Settings
		options Options
		layout  Layout
		machine func(*surroundings)
		want    string
	}{
		"another number": {old: new(three()), options: withNodes(5), want: "--nodes: the cluster has 3 nodes, not 5: change that with 'keelson node add'"},
		"one, of three":  {old: new(three()), options: withNodes(1), want: "--nodes: the cluster has 3 nodes, not 1"},
		"three, where this machine is the only one": {old: new(settings()), options: withNodes(3), want: "the only node of this cluster is this machine itself, which cannot be joined by 2 others: run 'keelson down' first"},
		"another network": {old: new(three()), options: func() Options {
			o := *NewOptions()
			o.NodeNetwork = "172.30.0.0/24"
			return o
		}(), want: "--node-network: the cluster was made with 198.19.0.0/24, not 172.30.0.0/24"},
		"a network that this machine is in": {options: withNodes(2), machine: func(m *surroundings) {
			m.networks = func() ([]netip.Prefix, error) { return []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}, nil }
		}, want: "--node-network: 198.19.0.0/24 overlaps 198.18.0.0/15, which this machine is in"},
		"data where no node sees them":           {options: withNodes(2), layout: layoutIn("/run/data"), want: "--data-dir: /run/data is below /run, of which every node has its own"},
		"a host name that cannot begin a name":   {options: withNodes(2), machine: func(m *surroundings) { m.hostname = "my_host" }, want: `"my_host`},
		"an address, for a cluster with several": {old: new(three()), options: func() Options { o := *NewOptions(); o.NodeIP = "192.0.2.1"; return o }(), want: "--node-ip: is the address of the only node"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m, l := elsewhere(), tt.layout
			if tt.machine != nil {
				tt.machine(&m)
			}
			if l.Data == "" {
				l = layoutIn("/data")
			}
			_, err := decideSettings(tt.old, tt.options, l, m)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNodesAreNamedByTheFirstPartOfTheHostName(t *testing.T) {
	m := elsewhere()
	m.hostname = "Box.example.com"
	s, err := decideSettings(nil, withNodes(2), layoutIn("/data"), m)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Nodes[0].Name; got != "box-1" {
		t.Errorf("the first node is %s", got)
	}
}

func TestAddNamed(t *testing.T) {
	deleting := three()
	deleting.Nodes[0].Deleting = true
	tests := map[string]struct {
		from          Settings
		name, address string
		want, wantErr string
	}{
		"the lowest free address":          {from: three(), name: "extra", want: "198.19.0.5"},
		"one that was asked for":           {from: three(), name: "extra", address: "198.19.0.77", want: "198.19.0.77"},
		"an address that a node has":       {from: three(), name: "extra", address: "198.19.0.3", wantErr: "--address: 198.19.0.3 is that of node host-1-2"},
		"this machine's own":               {from: three(), name: "extra", address: "198.19.0.1", wantErr: "is no address for a node in 198.19.0.0/24"},
		"an address of another network":    {from: three(), name: "extra", address: "10.0.0.1", wantErr: "is no address for a node"},
		"no address at all":                {from: three(), name: "extra", address: "x", wantErr: `--address: "x"`},
		"a name that a node has":           {from: three(), name: "host-1-2", wantErr: "there is a node host-1-2 already"},
		"a name that is no name":           {from: three(), name: "My_Node", wantErr: "cannot be a node's name"},
		"the name of one that still leave": {from: deleting, name: "host-1-1", wantErr: "run 'keelson node delete host-1-1' again"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.from.addNamed(tt.name, tt.address)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.from.Nodes[len(tt.from.Nodes)-1]; got.Name != tt.name || got.Address.String() != tt.want || got.Boot != 1 {
				t.Errorf("added %+v", got)
			}
		})
	}
}

func TestComponentsOfSeveralNodesComeInStartOrder(t *testing.T) {
	s := three()
	s.Nodes[1].Stopped = true
	p := testPlan(s)
	p.machine = newMachine(p.layout, s)
	var got []string
	for _, c := range p.components(newProbes(p.store, s)) {
		for _, d := range c.DependsOn {
			if !slices.Contains(got, d) {
				t.Errorf("%s depends on %s, which comes later", c.Name, d)
			}
		}
		got = append(got, c.Name)
	}
	var want []string
	for _, name := range s.startOrder() {
		if !strings.HasSuffix(name, "@host-1-2") { // it is off
			want = append(want, name)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("components (-want +got):\n%s", diff)
	}
}

func TestNodesHavePlacesOfTheirOwn(t *testing.T) {
	s := three()
	s.RegistryConfigDir = "/etc/registries"
	p := testPlan(s)
	one, other := p.inNamespaces(s.Nodes[0]), p.inNamespaces(s.Nodes[1])
	args := append(p.nodeArgs(one), p.nodeServerArgs(one)...)
	for _, want := range []string{
		"--node-name=host-1-1", "--node-ip=198.19.0.2", "--cgroup-root=/keelson/host-1-1", "--root-dir=/var/lib/keelson", "--run-dir=/run/keelson",
		"--server-address=198.19.0.2", "--registry-config-dir=/etc/registries", "--containerd-address=/run/containerd/containerd.sock",
		"--kubeconfig=" + p.layout.kubeconfig("node-host-1-1-client"), "--tls-cert-file=" + p.store.LeafFile("node-host-1-1-server"),
	} {
		if !slices.Contains(args, want) {
			t.Errorf("no %s in %q", want, args)
		}
	}
	for what, differ := range map[string]bool{
		"cgroups": one.cgroupRoot != other.cgroupRoot, "static Pods": one.staticPods != other.staticPods, "credentials": one.client != other.client && one.server != other.server,
	} {
		if !differ {
			t.Errorf("two nodes share their %s", what)
		}
	}
	proxy := p.hostProxyArgs()
	if !slices.Contains(proxy, "--agent=false") || slices.ContainsFunc(proxy, func(a string) bool { return strings.HasPrefix(a, "--cgroup-root") }) {
		t.Errorf("the proxy of this machine: %q", proxy)
	}
}

func TestCredentialsOfSeveralNodes(t *testing.T) {
	list, err := leaves(three())
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]string{}
	for _, leaf := range list {
		users[leaf.Name] = leaf.User
	}
	for name, user := range map[string]string{
		"node-host-1-1-client": "keelson:node:host-1-1", "node-host-1-3-server": "keelson:node:host-1-3", certHostProxy: hostProxyUser,
	} {
		if users[name] != user {
			t.Errorf("%s is %q, want %q", name, users[name], user)
		}
	}
	if _, ok := users[certNode]; ok {
		t.Error("there are credentials of a node that does not exist")
	}
}

func TestStatusOfNodes(t *testing.T) {
	n := NodeSettings{Name: "a"}
	state := func(machine, containerd, agent supervisor.Phase) supervisor.State {
		return supervisor.State{Components: []supervisor.ComponentState{
			{Name: "machine@a", Phase: machine}, {Name: "containerd@a", Phase: containerd}, {Name: "keelson-node@a", Phase: agent},
		}}
	}
	stopped, deleting := n, n
	stopped.Stopped, deleting.Deleting = true, true
	tests := map[string]struct {
		node  NodeSettings
		state supervisor.State
		want  string
	}{
		"all is ready":              {n, state(supervisor.Ready, supervisor.Ready, supervisor.Ready), "Ready"},
		"the agent starts":          {n, state(supervisor.Ready, supervisor.Ready, supervisor.Starting), "Starting"},
		"containerd fails":          {n, state(supervisor.Ready, supervisor.BackingOff, supervisor.Waiting), "BackingOff"},
		"it is off":                 {stopped, supervisor.State{}, "Stopped"},
		"it is going":               {deleting, supervisor.State{}, "Deleting"},
		"there is no supervisor":    {n, supervisor.State{}, "Stopped"},
		"the supervisor knows half": {n, supervisor.State{Components: []supervisor.ComponentState{{Name: "machine@a", Phase: supervisor.Ready}}}, "Stopped"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := statusOf(tt.node, tt.state); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
	s := three()
	s.Nodes[1].Cut = nodes.Cut{From: nodes.ControlPlane}
	var out strings.Builder
	if err := printNodes(&out, s, supervisor.State{StartedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NODE ", "host-1-1   198.19.0.2   Stopped   connected", "cut off from control-plane"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestComputeRoutes(t *testing.T) {
	withRange := func(name, podCIDR, address string) keelsonv1.Node {
		n := keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Spec.PodCIDR, n.Spec.PodCIDRs = podCIDR, []string{podCIDR}
		if address != "" {
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address}}
		}
		return n
	}
	r, err := computeRoutes(three(), []keelsonv1.Node{
		withRange("a", "10.244.0.0/24", "198.19.0.2"), withRange("new", "", "198.19.0.3"), withRange("silent", "10.244.2.0/24", ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[netip.Prefix]netip.Addr{netip.MustParsePrefix("10.244.0.0/24"): netip.MustParseAddr("198.19.0.2")}
	if diff := cmp.Diff(want, r.Nodes, compareAddr); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}
