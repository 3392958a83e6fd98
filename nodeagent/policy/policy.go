// Package policy enforces NetworkPolicies for the Pods of one node: it feeds package
// model from the API and gives what comes out to package nft.
//
// It follows NetworkPolicies always, and the Pods and namespaces of the whole cluster
// while there is a policy: a cluster without policies pays nothing for them. It never
// writes to the API, and never loosens what the kernel enforces before everything has
// been listed once.
//
// Recovery: the kernel keeps the rules while no process runs. A new one computes
// everything again and replaces them in one step; every CheckInterval it looks whether
// they are still there.
package policy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/keelson-dev/keelson/nodeagent/policy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/runner"
)

const (
	// CheckInterval is how long a table that somebody removed stays away at most.
	CheckInterval = 30 * time.Second
	// attachWait bounds how long a Pod waits for its rules before its start is tried again.
	attachWait = 30 * time.Second

	// peersIdle is how long the watches of Pods and namespaces outlive the last policy: who
	// replaces it soon does not list the cluster again.
	peersIdle = time.Minute

	minInterval = 50 * time.Millisecond
	minBackoff  = 500 * time.Millisecond
	maxBackoff  = 20 * time.Second
)

// Driver writes tables to the kernel.
type Driver interface {
	// Apply makes the kernel enforce the tables, one for each family.
	Apply(want [2]model.Table) error
	// Verify reports whether it still does.
	Verify() (bool, error)
}

// Options configure an Enforcer.
type Options struct {
	NodeName string
	// NewCache returns a cache of policies, and one of all Pods and namespaces.
	NewCache func() (cache.Cache, error)
	Driver   Driver
	Clock    clock.WithDelayedExecution
}

// Enforcer enforces policies for the Pods of this node. Its methods may be called
// concurrently.
type Enforcer struct {
	options Options
	runner  *runner.Runner

	mu      sync.Mutex
	tracker *model.Tracker
	// pods are those of the API, by name; local what this node knows better.
	pods  map[types.NamespacedName]model.Pod
	local map[types.UID]localPod
	// policiesKnown and peersKnown say that all have been listed once.
	policiesKnown, peersKnown bool
	// generation counts changes, applied is the last one that the kernel has.
	generation, applied uint64
	waiting             chan struct{}
}

// localPod is a Pod of this node that has, or had, an address here.
type localPod struct {
	pod model.Pod
	// gone says that it has none any more, whatever the API still says.
	gone bool
}

// New returns an Enforcer that Run starts.
func New(o Options) *Enforcer {
	e := &Enforcer{
		options: o, tracker: model.NewTracker(o.NodeName),
		pods: map[types.NamespacedName]model.Pod{}, local: map[types.UID]localPod{}, waiting: make(chan struct{}),
	}
	e.runner = runner.New(runner.Options{
		Sync: e.sync, MinInterval: minInterval, CheckInterval: func() time.Duration { return CheckInterval },
		MinBackoff: minBackoff, MaxBackoff: maxBackoff, Clock: o.Clock,
	})
	return e
}

// Run works until ctx ends. What the kernel enforces stays.
func (e *Enforcer) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	defer loops.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	loops.Go(func() { e.runner.Run(ctx) })
	if err := e.followPolicies(ctx, &loops); err != nil {
		return err
	}
	for {
		if err := e.until(ctx, func() bool { return e.tracker.Policies() > 0 }); err != nil {
			return err
		}
		if err := e.followWhileNeeded(ctx); err != nil {
			return err
		}
	}
}

// until returns when ready, which is asked under the lock at every news, says so.
func (e *Enforcer) until(ctx context.Context, ready func() bool) error {
	for {
		e.mu.Lock()
		ok, changed := ready(), e.waiting
		e.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// followWhileNeeded follows Pods and namespaces until there has been no policy for a
// while, and forgets them then.
func (e *Enforcer) followWhileNeeded(ctx context.Context) error {
	watching, stop := context.WithCancel(ctx)
	var watches sync.WaitGroup
	err := e.followPeers(watching, &watches)
	for abandoned := false; err == nil && !abandoned; {
		if err = e.idle(ctx); err == nil {
			abandoned = e.abandonPeers()
		}
	}
	stop()
	watches.Wait() // nothing is told by them any more
	if err == nil {
		klog.FromContext(ctx).V(2).Info("No network policy is left: Pods and namespaces are not watched any more")
		e.forgetPeers()
	}
	return err
}

// idle returns when there was no policy for peersIdle.
func (e *Enforcer) idle(ctx context.Context) error {
	for {
		if err := e.until(ctx, func() bool { return e.tracker.Policies() == 0 }); err != nil {
			return err
		}
		waiting, stop := context.WithCancel(ctx)
		over := e.options.Clock.AfterFunc(peersIdle, stop)
		err := e.until(waiting, func() bool { return e.tracker.Policies() > 0 })
		over.Stop()
		stop()
		if err != nil {
			return ctx.Err()
		}
	}
}

// abandonPeers says that what is known of Pods and namespaces will not be kept up any
// more, unless there is a policy: from here on a new one waits for another list.
func (e *Enforcer) abandonPeers() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.peersKnown || e.tracker.Policies() > 0 {
		return false
	}
	e.peersKnown = false
	return true
}

// Attach takes note of the addresses of a Pod of this node and returns once the kernel
// enforces what its policies say: before anything in it runs. Without policies that is
// at once.
func (e *Enforcer) Attach(ctx context.Context, pod model.Pod) error {
	pod.Node = e.options.NodeName
	var target uint64
	e.change(func() bool {
		e.local[pod.UID] = localPod{pod: pod}
		changed := e.settle(pod.Name)
		return changed
	})
	e.mu.Lock()
	target = e.generation
	e.mu.Unlock()
	expired := e.options.Clock.NewTimer(attachWait)
	defer expired.Stop()
	for {
		ready, changed := e.has(target)
		if ready {
			return nil
		}
		select {
		case <-changed:
		case <-expired.C():
			return errors.New("the network policies are not enforced yet")
		case <-ctx.Done():
			return fmt.Errorf("waiting for network policies: %w", ctx.Err())
		}
	}
}

// has reports whether the kernel has that generation, or there is nothing to enforce,
// and what is closed at the next news.
func (e *Enforcer) has(generation uint64) (bool, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	nothing := e.policiesKnown && e.tracker.Policies() == 0
	return nothing || e.synced() && e.applied >= generation, e.waiting
}

func (e *Enforcer) synced() bool {
	return e.policiesKnown && (e.peersKnown || e.tracker.Policies() == 0)
}

// Detach forgets the addresses of a Pod at once: another may get them.
func (e *Enforcer) Detach(uid types.UID) {
	e.change(func() bool {
		known, ok := e.local[uid]
		if !ok {
			for _, pod := range e.pods {
				if pod.UID == uid {
					known, ok = localPod{pod: pod}, true
				}
			}
		}
		if !ok {
			return false
		}
		if current, inAPI := e.pods[known.pod.Name]; !inAPI || current.UID != uid {
			delete(e.local, uid)
		} else {
			e.local[uid] = localPod{pod: known.pod, gone: true}
		}
		return e.settle(known.pod.Name)
	})
}

// setPod takes note of what the API says of a Pod.
func (e *Enforcer) setPod(pod model.Pod) {
	e.change(func() bool {
		if old, ok := e.pods[pod.Name]; ok && old.UID != pod.UID {
			e.forgetGone(old.UID)
		}
		e.pods[pod.Name] = pod
		return e.settle(pod.Name)
	})
}

func (e *Enforcer) removePod(name types.NamespacedName) {
	e.change(func() bool {
		if old, ok := e.pods[name]; ok {
			e.forgetGone(old.UID)
		}
		delete(e.pods, name)
		return e.settle(name)
	})
}

func (e *Enforcer) forgetGone(uid types.UID) {
	if e.local[uid].gone {
		delete(e.local, uid)
	}
}

// settle gives the model what is true of the Pods of that name: of the labels the API
// knows best, of the addresses this node.
func (e *Enforcer) settle(name types.NamespacedName) bool {
	pod, known := e.pods[name]
	if !known {
		for _, here := range e.local {
			if here.pod.Name == name && !here.gone {
				return e.tracker.SetPod(here.pod)
			}
		}
		return e.tracker.RemovePod(name)
	}
	if here, ok := e.local[pod.UID]; ok {
		if pod.IPs = here.pod.IPs; here.gone {
			pod.IPs = nil
		}
	}
	if len(pod.IPs) == 0 {
		return e.tracker.RemovePod(name)
	}
	return e.tracker.SetPod(pod)
}

// change runs under the lock; f says whether there is something to enforce anew.
func (e *Enforcer) change(f func() bool) {
	e.mu.Lock()
	changed := f()
	if changed {
		e.generation++
	}
	e.announce()
	e.mu.Unlock()
	if changed {
		e.runner.Trigger()
	}
}

func (e *Enforcer) announce() {
	close(e.waiting)
	e.waiting = make(chan struct{})
}

// sync writes what is to be enforced. Before all is known it writes nothing: what an
// earlier process left is nearer to the truth.
func (e *Enforcer) sync(ctx context.Context, check bool) error {
	log := klog.FromContext(ctx)
	if check {
		if ok, err := e.options.Driver.Verify(); err != nil {
			log.Error(err, "Cannot check the network policies")
			return err
		} else if !ok {
			log.V(2).Info("Writing the network policies again")
		}
	}
	e.mu.Lock()
	if !e.synced() {
		e.mu.Unlock()
		return nil
	}
	tables, generation := e.tracker.Tables(), e.generation
	e.mu.Unlock()
	if err := e.options.Driver.Apply(tables); err != nil {
		log.Error(err, "Cannot enforce the network policies")
		return err
	}
	e.mu.Lock()
	e.applied = generation
	e.announce()
	e.mu.Unlock()
	return nil
}
