package node

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	leaseRenewal  = 10 * time.Second
	leaseDuration = 40 * time.Second
)

// LeaseKeeper renews the Lease that says this node's agent lives.
type LeaseKeeper struct {
	client client.Client
	clock  clock.WithTicker
	name   string
	// node returns the Node that owns the Lease, nil when there is none.
	node func() *keelsonv1.Node

	// last is the Lease as it was last written.
	last *coordinationv1.Lease
}

// NewLeaseKeeper returns the keeper of the Lease of the Node called name.
func NewLeaseKeeper(c client.Client, clk clock.WithTicker, name string, node func() *keelsonv1.Node) *LeaseKeeper {
	return &LeaseKeeper{client: c, clock: clk, name: name, node: node}
}

// Run renews until ctx ends.
func (k *LeaseKeeper) Run(ctx context.Context) {
	ticker := k.clock.NewTicker(leaseRenewal)
	defer ticker.Stop()
	for {
		if err := k.renew(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot renew the Lease, will retry", "lease", klog.KRef(keelsonv1.NodeLeaseNamespace, k.name))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

func (k *LeaseKeeper) renew(ctx context.Context) error {
	if k.last == nil {
		lease := &coordinationv1.Lease{}
		key := client.ObjectKey{Namespace: keelsonv1.NodeLeaseNamespace, Name: k.name}
		switch err := k.client.Get(ctx, key, lease); {
		case err == nil:
			k.last = lease
		case apierrors.IsNotFound(err):
			return k.create(ctx)
		default:
			return fmt.Errorf("reading the Lease: %w", err)
		}
	}
	lease := k.last.DeepCopy()
	k.fill(lease)
	if err := k.client.Update(ctx, lease); err != nil {
		k.last = nil // read it again: it was deleted, or somebody else wrote
		if apierrors.IsConflict(err) {
			return fmt.Errorf("renewing the Lease: somebody else has renewed it: does another machine run keelson-node with --node-name=%s? %w", k.name, err)
		}
		return fmt.Errorf("renewing the Lease: %w", err)
	}
	k.last = lease
	return nil
}

func (k *LeaseKeeper) create(ctx context.Context) error {
	lease := &coordinationv1.Lease{}
	lease.Namespace, lease.Name = keelsonv1.NodeLeaseNamespace, k.name
	k.fill(lease)
	if err := k.client.Create(ctx, lease); err != nil {
		return fmt.Errorf("creating the Lease: %w", err)
	}
	k.last = lease
	return nil
}

func (k *LeaseKeeper) fill(lease *coordinationv1.Lease) {
	lease.Spec.HolderIdentity = &k.name
	lease.Spec.LeaseDurationSeconds = new(int32(leaseDuration / time.Second))
	lease.Spec.RenewTime = new(metav1.NewMicroTime(k.clock.Now()))
	if node := k.node(); node != nil {
		lease.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: keelsonv1.GroupVersion.String(), Kind: "Node", Name: node.Name, UID: node.UID,
		}}
	}
}
