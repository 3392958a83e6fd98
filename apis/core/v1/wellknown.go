package v1

const (
	// PodFinalizer keeps a Pod that is bound to a node in the API until the node's
	// agent has stopped its containers and written the last status. It is set in
	// the same write that sets spec.nodeName, and removed by the agent only (by the
	// Pod garbage collector when the Node is gone).
	PodFinalizer = "keelson.dev/pod"

	// DeletionGracePeriodAnnotation shortens spec.terminationGracePeriodSeconds for
	// one deletion: whole seconds, 0 kills at once. A custom resource has no
	// deletionGracePeriodSeconds of its own.
	DeletionGracePeriodAnnotation = "keelson.dev/deletion-grace-period-seconds"

	// GenerationBeforeBindingAnnotation holds metadata.generation as it was before the
	// Pod got its node; the binding writes it. Upstream does not count a binding as a
	// change of the spec, a custom resource does, and the plain view shows upstream's
	// count.
	GenerationBeforeBindingAnnotation = "keelson.dev/generation-before-binding"

	// QuotaLabel marks Namespaces that have a ResourceQuota: for those alone the API
	// server asks before it stores an object. The controller of quotas keeps it.
	QuotaLabel = "keelson.dev/resource-quota"

	// SystemNamespace holds Keelson's own objects: leases of leader election, the
	// webhook certificate, the dry-run target of admission.
	SystemNamespace = "keelson-system"

	// NodeLeaseNamespace holds one Lease per Node, renewed by its agent.
	NodeLeaseNamespace = "keelson-node-lease"

	// LoadBalancerLeasePrefix followed by an address, whose colons are dashes, names the
	// Lease in NodeLeaseNamespace of the node that announces that address of a load
	// balancer.
	LoadBalancerLeasePrefix = "load-balancer."

	// LoadBalancerClass is the spec.loadBalancerClass of Services that get their address
	// from Keelson's pool; those that name no class get it, too.
	LoadBalancerClass = "keelson.dev/pool"

	// LoadBalancerIPsAnnotation wishes for addresses of a load balancer, one of each
	// family at most, separated by a comma.
	LoadBalancerIPsAnnotation = "keelson.dev/load-balancer-ips"

	// NodesGroup is the group of every node agent's identity.
	NodesGroup = "keelson:nodes"

	// NodeUserPrefix followed by the node's name is the user name of its agent.
	NodeUserPrefix = "keelson:node:"

	// ManagerUser is the user name of the manager where certificates identify it
	// (standalone mode).
	ManagerUser = "keelson:manager"

	// DefaultSchedulerName is the scheduler that admission writes into a Pod that
	// names none, as upstream does.
	DefaultSchedulerName = "default-scheduler"
)
