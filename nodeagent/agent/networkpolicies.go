package agent

import (
	"context"
	"fmt"
	"net/netip"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/policy"
	"github.com/keelson-dev/keelson/nodeagent/policy/model"
	"github.com/keelson-dev/keelson/nodeagent/policy/nft"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// newPolicies returns what enforces NetworkPolicies in this process's network namespace.
func newPolicies(node string, api *api) *policy.Enforcer {
	return policy.New(policy.Options{
		NodeName: node, NewCache: api.newPolicyCache, Driver: nft.New(0), Clock: clock.RealClock{},
	})
}

// newPolicyCache returns a cache of the whole cluster, of which it keeps what policies
// look at.
func (a *api) newPolicyCache() (cache.Cache, error) {
	c, err := cache.New(a.config, cache.Options{
		Scheme: a.scheme, Mapper: newMapper(), ReaderFailOnMissingInformer: true,
		DefaultTransform: policy.Strip, DefaultUnsafeDisableDeepCopy: new(true),
	})
	if err != nil {
		return nil, fmt.Errorf("building the cache of network policies: %w", err)
	}
	return c, nil
}

func (a *agent) runPolicies(ctx context.Context) {
	if err := a.policies.Run(ctx); err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Cannot follow network policies: what is enforced stays as it is")
	}
}

func (a *agent) networkAdapter() networkAdapter {
	adapter := networkAdapter{podNetwork: a.network, changed: a.ports.setIPs}
	if a.policies != nil {
		adapter.protect, adapter.release = a.protect, a.policies.Detach
	}
	return adapter
}

// protect puts a Pod under its policies. Static Pods run without the API: they get
// under theirs once the API shows them.
func (a *agent) protect(ctx context.Context, id runtime.PodIdentity, ips []netip.Addr) error {
	var shown keelsonv1.Pod
	err := a.api.cache.Get(ctx, client.ObjectKey{Namespace: id.Namespace, Name: id.Name}, &shown)
	switch {
	case apierrors.IsNotFound(err):
		return nil // static, or deleted meanwhile
	case err != nil:
		return fmt.Errorf("reading the labels of Pod %s/%s: %w", id.Namespace, id.Name, err)
	case shown.UID != id.UID:
		return nil
	}
	pod, _ := policy.ToPod(&shown)
	pod.IPs = ips
	return a.policies.Attach(ctx, pod)
}

// cleanupPolicies removes what the agent enforced.
func cleanupPolicies() error {
	if err := nft.New(0).Apply([2]model.Table{}); err != nil {
		return fmt.Errorf("removing the network policies: %w", err)
	}
	return nil
}
