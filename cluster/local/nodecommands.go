package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/clock"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/cluster/nodes"
	"github.com/keelson-dev/keelson/cluster/pki"
	"github.com/keelson-dev/keelson/cluster/supervisor"
	"github.com/keelson-dev/keelson/internal/addrpool"
)

// NodeStop switches a node off as a power cut does; its Node object stays.
func NodeStop(ctx context.Context, o Options, name string, out io.Writer) error {
	return changeNodes(ctx, o, out, func(s *Settings) error {
		return s.changeNode(name, func(n *NodeSettings) { n.Stopped = true })
	}, func(c *nodeChanger) error {
		c.say("Node %s is switched off; start it with 'keelson node start %s'", name, name)
		return nil
	})
}

// NodeStart switches a node on and waits until it is ready.
func NodeStart(ctx context.Context, o Options, name string, out io.Writer) error {
	return changeNodes(ctx, o, out, func(s *Settings) error {
		return s.changeNode(name, func(n *NodeSettings) {
			if n.Stopped {
				n.Stopped = false
				n.Boot++
			}
		})
	}, func(c *nodeChanger) error { return c.waitReady(ctx, name) })
}

// NodeRestart is a reset: power off and on.
func NodeRestart(ctx context.Context, o Options, name string, out io.Writer) error {
	return changeNodes(ctx, o, out, func(s *Settings) error {
		return s.changeNode(name, func(n *NodeSettings) {
			n.Stopped = false
			n.Boot++
		})
	}, func(c *nodeChanger) error { return c.waitReady(ctx, name) })
}

// NodeCut lets traffic of a node get lost.
func NodeCut(ctx context.Context, o Options, name string, cut nodes.Cut, out io.Writer) error {
	return changeNodes(ctx, o, out, func(s *Settings) error {
		return s.changeNode(name, func(n *NodeSettings) { n.Cut = cut })
	}, func(c *nodeChanger) error {
		c.say("Node %s is %s; take it back with 'keelson node heal %s'", name, cut, name)
		return nil
	})
}

// NodeHeal takes back what NodeCut did.
func NodeHeal(ctx context.Context, o Options, name string, out io.Writer) error {
	return changeNodes(ctx, o, out, func(s *Settings) error {
		return s.changeNode(name, func(n *NodeSettings) { n.Cut = nodes.Cut{} })
	}, func(c *nodeChanger) error {
		c.say("Node %s is connected", name)
		return nil
	})
}

// NodeAdd makes one more node and waits until it is ready. Without an address it gets
// the lowest that is free.
func NodeAdd(ctx context.Context, o Options, name, address string, out io.Writer) error {
	return changeNodes(ctx, o, out, func(s *Settings) error { return s.addNamed(name, address) },
		func(c *nodeChanger) error { return c.waitReady(ctx, name) })
}

// NodeDelete switches a node off for good, and removes its Node object and its files. Of a
// machine that has joined, and left, it removes the Node object.
func NodeDelete(ctx context.Context, o Options, name string, out io.Writer) error {
	if s, store, joined, err := ofOneMachine(o); err != nil || joined {
		if err != nil {
			return err
		}
		return deleteJoined(ctx, s, store, name, out)
	}
	return changeNodes(ctx, o, out, func(s *Settings) error {
		if len(s.Nodes) == 1 {
			return fmt.Errorf("node %s is the only one left: end the cluster with 'keelson down'", name)
		}
		i := s.indexOf(name)
		if i < 0 {
			return s.unknownNode(name)
		}
		s.Nodes[i].Deleting = true // also one whose deletion was interrupted
		return nil
	}, func(c *nodeChanger) error { return c.forgetNode(ctx, name) })
}

func (s *Settings) indexOf(name string) int {
	return slices.IndexFunc(s.Nodes, func(n NodeSettings) bool { return n.Name == name })
}

func (s *Settings) unknownNode(name string) error {
	var names []string
	for _, n := range s.Nodes {
		names = append(names, n.Name)
	}
	return fmt.Errorf("there is no node %q: there are %s", name, strings.Join(names, ", "))
}

func (s *Settings) changeNode(name string, change func(*NodeSettings)) error {
	i := s.indexOf(name)
	if i < 0 {
		return s.unknownNode(name)
	}
	if s.Nodes[i].Deleting {
		return fmt.Errorf("node %s is being deleted: run 'keelson node delete %s' again to finish it", name, name)
	}
	change(&s.Nodes[i])
	return nil
}

// addNamed refuses a name or an address that cannot be a further node's.
func (s *Settings) addNamed(name, address string) error {
	if err := checkNodeName(name); err != nil {
		return err
	}
	if i := s.indexOf(name); i >= 0 {
		if s.Nodes[i].Deleting {
			return fmt.Errorf("node %s is being deleted: run 'keelson node delete %s' again to finish it", name, name)
		}
		return fmt.Errorf("there is a node %s already, with the address %s", name, s.Nodes[i].Address)
	}
	if len(s.Nodes) >= min(maxNodes, nodes.Capacity(s.NodeNetwork)) {
		return fmt.Errorf("there are %d nodes already, the most that %s and this machine take", len(s.Nodes), s.NodeNetwork)
	}
	if address == "" {
		s.addNode(name, netip.Addr{})
		return s.checkPool()
	}
	ip, err := netip.ParseAddr(address)
	if err != nil || !slices.Contains(slices.Collect(nodes.Addresses(s.NodeNetwork)), ip) {
		return fmt.Errorf("--address: %q is no address for a node in %s", address, s.NodeNetwork)
	}
	if i := slices.IndexFunc(s.Nodes, func(n NodeSettings) bool { return n.Address == ip }); i >= 0 {
		return fmt.Errorf("--address: %s is that of node %s", ip, s.Nodes[i].Name)
	}
	pool, _ := addrpool.Parse(s.LoadBalancerPool) // validated
	if a, taken := s.inPool(pool, ip); taken {
		return fmt.Errorf("--address: %s is in the pool of load balancers (--load-balancer-pool %s): choose another", a, pool)
	}
	s.addNode(name, ip)
	return nil
}

// nodeChanger carries what the steps of a change share.
type nodeChanger struct {
	options  Options
	layout   Layout
	settings Settings
	out      io.Writer
	say      func(string, ...any)
}

// changeNodes changes the settings of a running cluster, waits until the supervisor has
// followed them, and goes on with then.
func changeNodes(ctx context.Context, o Options, out io.Writer, change func(*Settings) error, then func(*nodeChanger) error) error {
	c, unlock, err := openNodes(ctx, o, out)
	if err != nil {
		return err
	}
	defer unlock()
	if err := change(&c.settings); err != nil {
		return err
	}
	c.settings.Generation++
	if _, err := ensureCredentials(pki.NewStore(c.layout.pkiDir(), clock.RealClock{}), c.layout, c.settings); err != nil {
		return err
	}
	if err := c.write(); err != nil {
		return err
	}
	if err := c.waitApplied(ctx); err != nil {
		return err
	}
	return then(c)
}

// openNodes finds a running cluster of several nodes, and keeps other commands from it.
func openNodes(ctx context.Context, o Options, out io.Writer) (*nodeChanger, func(), error) {
	if _, err := os.Stat(o.DataDir); errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no cluster in %s: start one with 'keelson up --nodes 3', or name its folder with --data-dir", o.DataDir)
	}
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return nil, nil, err
	}
	if os.Geteuid() != 0 {
		return nil, nil, errors.New("not running as root: run it again with sudo")
	}
	say := teller(out)
	unlock, err := lockCommand(ctx, l, say)
	if err != nil {
		return nil, nil, err
	}
	c := &nodeChanger{options: o, layout: l, out: out, say: say}
	if err := c.read(); err != nil {
		unlock()
		return nil, nil, err
	}
	return c, unlock, nil
}

func (c *nodeChanger) read() error {
	s, known, err := readSettings(c.layout.settingsFile())
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("%s holds no cluster: start one with 'keelson up --nodes 3'", c.layout.Data)
	}
	if !s.several() {
		return fmt.Errorf("the only node of this cluster, %s, is this machine itself: for others run 'keelson down' and 'keelson up --nodes N'", s.NodeName)
	}
	c.settings, c.layout.Run = s, s.RunDir
	_, alive, err := supervisor.ReadState(c.layout.stateFile())
	if err == nil && !alive {
		err = errors.New("the cluster is not up: run 'keelson up' first")
	}
	return err
}

func (c *nodeChanger) write() error {
	return errors.Join(c.settings.write(c.layout.settingsFile()), c.settings.write(c.layout.settingsCopy()))
}

// await asks until done, the supervisor's end, or the timeout.
func (c *nodeChanger) await(ctx context.Context, what string, done func(supervisor.State) (bool, error)) error {
	const period = 50 * time.Millisecond
	ctx, cancel := context.WithTimeoutCause(ctx, c.options.Timeout, errTimeout)
	defer cancel()
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		state, alive, err := supervisor.ReadState(c.layout.stateFile())
		if err != nil {
			return err
		}
		if !alive {
			return fmt.Errorf("wait %s: the supervisor has ended: run 'keelson up', which goes on with it", what)
		}
		ok, err := done(state)
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait %s: %w; it goes on in the background: see 'keelson status' and %s", what, context.Cause(ctx), supervisor.LogFile(c.layout.logDir(), nameSupervisor))
		case <-tick.C:
		}
	}
}

func (c *nodeChanger) waitApplied(ctx context.Context) error {
	return c.await(ctx, "until the supervisor has followed", func(supervisor.State) (bool, error) {
		a, err := readApplied(c.layout)
		if err == nil && a.Generation >= c.settings.Generation && a.Error != "" {
			err = errors.New(a.Error)
		}
		return a.Generation >= c.settings.Generation, err
	})
}

func (c *nodeChanger) waitReady(ctx context.Context, name string) error {
	begin := time.Now()
	err := c.await(ctx, "until node "+name+" is ready", func(state supervisor.State) (bool, error) {
		return nodeReadyIn(state, name), nil
	})
	if err == nil {
		c.say("Node %s is ready, after %.1fs", name, time.Since(begin).Seconds())
	}
	return err
}

// nodeReadyIn says whether all components of a node are ready.
func nodeReadyIn(state supervisor.State, name string) bool {
	ready := 0
	for _, component := range state.Components {
		if component.Phase == supervisor.Ready && slices.Contains(nodeComponents(name), component.Name) {
			ready++
		}
	}
	return ready == len(nodeComponents(name))
}

// forgetNode removes the object and the files of a node that is switched off, and last
// its settings, so that an interrupted deletion can be finished.
func (c *nodeChanger) forgetNode(ctx context.Context, name string) error {
	store := pki.NewStore(c.layout.pkiDir(), clock.RealClock{})
	api, err := newProbes(store, c.settings).apiClient()
	if err != nil {
		return fmt.Errorf("delete Node %s: %w", name, err)
	}
	object := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := api.Delete(ctx, object); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete Node %s: %w", name, err)
	}
	i := c.settings.indexOf(name)
	at := c.settings.identity(c.settings.Nodes[i])
	err = errors.Join(
		removeAll(c.layout.nodeData(name), c.layout.nodeContainerdConfig(name), c.layout.kubeconfig(at.client), store.LeafFile(at.client), store.LeafFile(at.server)),
		removeIfEmpty(c.layout.staticPodsOf(name)),
	)
	if err != nil {
		return err
	}
	c.settings.Nodes = slices.Delete(c.settings.Nodes, i, i+1)
	c.settings.Generation++
	if err := c.write(); err != nil {
		return err
	}
	c.say("Node %s is deleted", name)
	return nil
}
