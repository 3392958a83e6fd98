package announce

import (
	"context"
	"net/netip"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	// leaseDuration is how long the others wait for a silent holder, from when they saw
	// its last renewal.
	leaseDuration = 5 * time.Second
	// renewDeadline is when a holder gives up that cannot renew.
	renewDeadline = 4 * time.Second
	// retryPeriod is the time between two renewals. Looks of others at the Lease are up to
	// 2.2 times that apart (client-go's JitterFactor), and a take-over is two of them and
	// leaseDuration away at most: 9.4 s.
	retryPeriod = time.Second
	// holdMargin is how much sooner than the others may take the address the kernel takes
	// it away here; it is late by less than a second.
	holdMargin = time.Second
	// tellings is how many renewals after a take-over tell the neighbours again: a
	// single packet may get lost.
	tellings = 3
)

// addresses is what an elected node does; heldaddr.Holder is the real one.
type addresses interface {
	Hold(addr netip.Addr, lifetime time.Duration) error
	Drop(addr netip.Addr) error
	Tell(addr netip.Addr) error
}

// leaseName is as controllers/loadbalancer reads it.
func leaseName(addr netip.Addr) string {
	return keelsonv1.LoadBalancerLeasePrefix + strings.ReplaceAll(addr.StringExpanded(), ":", "-")
}

// holdingLock is a Lease with an address: this machine has it from one renewal to the
// next, and never after the Lease was given back.
type holdingLock struct {
	resourcelock.Interface
	addr    netip.Addr
	machine addresses
	clock   clock.PassiveClock
	// told counts the announcements since the address was taken over.
	told int
}

// Create implements resourcelock.Interface.
func (l *holdingLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	asked := l.clock.Now()
	if err := l.Interface.Create(ctx, record); err != nil {
		return err
	}
	return l.hold(ctx, asked)
}

// Update implements resourcelock.Interface. A failure leaves the address to its time:
// the write may have arrived all the same.
func (l *holdingLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity != l.Identity() {
		if err := l.drop(); err != nil {
			return err // the Lease runs out instead, after the address has
		}
		return l.Interface.Update(ctx, record)
	}
	asked := l.clock.Now()
	if err := l.Interface.Update(ctx, record); err != nil {
		return err
	}
	return l.hold(ctx, asked)
}

// hold has the address until the others may take it, who have seen the renewal that was
// asked for then no sooner than that.
func (l *holdingLock) hold(ctx context.Context, asked time.Time) error {
	if err := l.machine.Hold(l.addr, leaseDuration-holdMargin-l.clock.Since(asked)); err != nil {
		return err
	}
	if l.told >= tellings {
		return nil
	}
	if l.told == 0 {
		klog.FromContext(ctx).Info("Announcing the address of a load balancer", "address", l.addr)
	}
	l.told++
	return l.machine.Tell(l.addr)
}

func (l *holdingLock) drop() error {
	l.told = 0
	return l.machine.Drop(l.addr)
}

// stand stands for an address until ctx ends, and gives it back then.
func (a *Announcer) stand(ctx context.Context, addr netip.Addr) {
	lock := &holdingLock{
		addr: addr, machine: a.options.Addresses, clock: a.options.Clock,
		Interface: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: keelsonv1.NodeLeaseNamespace, Name: leaseName(addr)},
			Client:     a.options.Leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: a.options.NodeName},
		},
	}
	log := klog.FromContext(ctx).WithValues("address", addr)
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, Name: leaseName(addr), ReleaseOnCancel: true,
			LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) {},
				OnStoppedLeading: func() {
					if err := lock.drop(); err != nil {
						log.Error(err, "Cannot give up the address of a load balancer; the kernel does in a moment")
					}
				},
			},
		})
		if err != nil {
			log.Error(err, "Cannot stand for the address of a load balancer")
			return
		}
		elector.Run(klog.NewContext(ctx, log))
	}
}
