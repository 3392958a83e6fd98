package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/cluster/internal/files"
	"github.com/keelson-dev/keelson/cluster/nodes"
	"github.com/keelson-dev/keelson/cluster/supervisor"
)

// netPeriod is how often bridge, rules and routes are put right, in case that somebody
// else changed them.
const netPeriod = 30 * time.Second

// machine is this machine in a cluster of several nodes.
type machine struct {
	*nodes.Machine
	layout Layout
	// now are the settings at the latest look.
	now atomic.Pointer[Settings]
}

func newMachine(l Layout, s Settings) *machine {
	m := &machine{Machine: nodes.New(nodesOptions(l, s)), layout: l}
	m.now.Store(&s)
	return m
}

func (m *machine) ensureNetwork(ctx context.Context) error {
	return errors.Join(m.EnsureNetwork(), m.applyTraffic(ctx))
}

func (m *machine) applyTraffic(ctx context.Context) error {
	var all []nodes.Node
	for _, n := range m.now.Load().Nodes {
		all = append(all, m.node(n))
	}
	return m.ApplyTraffic(ctx, all)
}

func (m *machine) node(n NodeSettings) nodes.Node {
	return nodes.Node{Name: n.Name, Address: n.Address, Data: m.layout.nodeData(n.Name), Boot: n.Boot, Cut: n.Cut}
}

// isCut says that the node cannot be expected to be ready.
func (m *machine) isCut(name string) bool {
	return slices.ContainsFunc(m.now.Load().Nodes, func(n NodeSettings) bool { return n.Name == name && n.Cut.From != "" })
}

// expected is how many of replicas can be on nodes of their own now: one that is off or cut
// off takes none.
func (m *machine) expected(replicas int64) int64 {
	there := int64(0)
	for _, n := range m.now.Load().Nodes {
		if n.on() && n.Cut.From == "" {
			there++
		}
	}
	return min(replicas, there)
}

// severalComponents follow the control plane of a cluster of several nodes.
func (p plan) severalComponents(probes *probes) []supervisor.Component {
	list := []supervisor.Component{
		{
			Name: nameHostProxy, Command: p.commands()[nameHostProxy], DependsOn: []string{nameManager},
			Ready: probes.http("http://" + onLoopback(p.settings.Ports.NodeHealth) + "/readyz"), StopTimeout: 15 * time.Second,
		},
		{Name: nameRoutes, Task: p.followRoutes(probes), DependsOn: []string{nameNetwork, nameManifests}},
	}
	for _, n := range p.settings.Nodes {
		if n.on() {
			list = append(list, p.nodeComponents(n, probes)...)
		}
	}
	return list
}

// nodeComponents are the programs of one of several nodes.
func (p plan) nodeComponents(n NodeSettings, probes *probes) []supervisor.Component {
	names, at := nodeComponents(n.Name), p.inNamespaces(n)
	within := func(start func() error) error { return p.machine.Enter(n.Name, start) }
	return []supervisor.Component{
		{
			Name: names[0], DependsOn: []string{nameNetwork},
			Task: func(ctx context.Context) error { return p.bootNode(ctx, n) },
		},
		{
			Name: names[1], DependsOn: names[:1], Leave: true,
			Command: &supervisor.Command{Path: p.programs.Containerd, Args: []string{"--config", p.layout.nodeContainerdConfig(n.Name)}, Within: within},
			Ready:   p.inside(n.Name, probes.socket(nodeContainerdSocket)),
		},
		{
			Name: names[2], DependsOn: []string{nameManager, names[1]}, StopTimeout: 15 * time.Second,
			Command: &supervisor.Command{Path: p.programs.Node, Args: append(p.nodeArgs(at), p.nodeServerArgs(at)...), Within: within},
			Ready:   p.nodeReady(n.Name, probes),
		},
	}
}

// bootNode makes the namespaces of a node and connects them.
func (p plan) bootNode(ctx context.Context, n NodeSettings) error {
	if err := errors.Join(os.MkdirAll(p.layout.staticPodsOf(n.Name), 0o700), os.MkdirAll(p.layout.nodeContainerdRoot(n.Name), 0o700)); err != nil {
		return fmt.Errorf("prepare the folders of node %s: %w", n.Name, err)
	}
	config := renderContainerdConfig(p.layout.nodeContainerdRoot(n.Name), nodeContainerdState, nodeContainerdSocket)
	if err := files.Replace(p.layout.nodeContainerdConfig(n.Name), []byte(config), 0o600); err != nil {
		return err
	}
	return errors.Join(p.machine.Ensure(ctx, p.machine.node(n)), p.machine.applyTraffic(ctx))
}

// inside asks from within the node's namespaces.
func (p plan) inside(node string, ask func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		return p.machine.Enter(node, func() error { return ask(ctx) })
	}
}

// nodeReady asks the agent of this boot, and then whether the cluster knows. One that
// is cut off only has to run.
func (p plan) nodeReady(node string, probes *probes) func(context.Context) error {
	agent := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = p.machine.Enter(node, func() (err error) {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
	inAPI := probes.node(node)
	return func(ctx context.Context) error {
		if p.machine.isCut(node) {
			return nil
		}
		if err := get(ctx, agent, "http://"+onLoopback(p.settings.Ports.NodeHealth)+"/readyz"); err != nil {
			return err
		}
		return inAPI(ctx)
	}
}

// applied is what the supervisor made of a change to the nodes.
type applied struct {
	Generation int    `json:"generation"`
	Error      string `json:"error,omitempty"`
}

func readApplied(l Layout) (applied, error) {
	var a applied
	data, err := os.ReadFile(l.appliedFile())
	if errors.Is(err, os.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	if err != nil {
		return a, fmt.Errorf("read what became of the nodes: %w", err)
	}
	return a, nil
}

// keepNodes makes the nodes what the settings say, whenever those change, until ctx
// ends.
func (p plan) keepNodes(ctx context.Context, probes *probes, changes chan<- supervisor.Change) {
	log := klog.FromContext(ctx)
	changed, stop := watchFile(ctx, p.layout.settingsFile())
	defer stop()
	tick := time.NewTicker(netPeriod)
	defer tick.Stop()
	running, spread := map[string]NodeSettings{}, p.settings.dnsHosts()
	for _, n := range p.settings.Nodes {
		if n.on() {
			running[n.Name] = n
		}
	}
	for {
		s, known, err := readSettings(p.layout.settingsFile())
		if err == nil && known {
			p.machine.now.Store(&s)
			err = errors.Join(p.followSettings(ctx, s, running, probes, changes), p.followDNS(ctx, s, probes, changes, &spread))
			a := applied{Generation: s.Generation}
			if err != nil {
				a.Error = err.Error()
			}
			data, _ := json.Marshal(a) // a struct of plain fields
			err = errors.Join(err, files.Replace(p.layout.appliedFile(), append(data, '\n'), 0o644))
		}
		if err != nil && ctx.Err() == nil {
			log.Error(err, "Cannot make the nodes what the settings say and will try again")
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// followSettings takes away nodes that are not to run, or to start again, and makes
// those that are. running are those whose components the supervisor has.
func (p plan) followSettings(ctx context.Context, s Settings, running map[string]NodeSettings, probes *probes, changes chan<- supervisor.Change) error {
	want := map[string]NodeSettings{}
	for _, n := range s.Nodes {
		if n.on() {
			want[n.Name] = n
		}
	}
	var errs []error
	for name, n := range running {
		if w, ok := want[name]; ok && w.Boot == n.Boot && w.Address == n.Address {
			continue
		}
		if err := sendChange(ctx, changes, supervisor.Change{Remove: nodeComponents(name)}); err != nil {
			return err
		}
		delete(running, name)
	}
	present, err := p.machine.Present()
	errs = append(errs, err)
	for _, name := range present {
		if _, ok := running[name]; !ok {
			errs = append(errs, p.machine.Remove(ctx, name))
		}
	}
	for name, n := range want {
		if _, ok := running[name]; ok {
			continue
		}
		if err := sendChange(ctx, changes, supervisor.Change{Add: p.nodeComponents(n, probes)}); err != nil {
			return err
		}
		running[name] = n
	}
	return errors.Join(append(errs, p.machine.applyTraffic(ctx))...)
}

func sendChange(ctx context.Context, changes chan<- supervisor.Change, c supervisor.Change) error {
	done := make(chan error, 1)
	c.Done = done
	select {
	case changes <- c:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watchFile sends when the file may have been replaced.
func watchFile(ctx context.Context, path string) (changed <-chan struct{}, stop func()) {
	events := make(chan struct{}, 1)
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(folderOf(path))
	}
	if err != nil { // the slow look finds the change, too
		klog.FromContext(ctx).Error(err, "Cannot watch the settings")
		return events, func() {}
	}
	go func() {
		for event := range watcher.Events {
			if event.Name != path {
				continue
			}
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}()
	return events, func() { _ = watcher.Close() } // closes Events
}
