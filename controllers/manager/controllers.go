package manager

import (
	"slices"

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/keelson-dev/keelson/controllers/admission"
	"github.com/keelson-dev/keelson/controllers/clusterroleaggregation"
	"github.com/keelson-dev/keelson/controllers/cronjob"
	"github.com/keelson-dev/keelson/controllers/csr"
	"github.com/keelson-dev/keelson/controllers/csrcleaner"
	"github.com/keelson-dev/keelson/controllers/daemonset"
	"github.com/keelson-dev/keelson/controllers/deployment"
	"github.com/keelson-dev/keelson/controllers/disruption"
	"github.com/keelson-dev/keelson/controllers/endpoints"
	"github.com/keelson-dev/keelson/controllers/endpointslice"
	"github.com/keelson-dev/keelson/controllers/endpointslicemirroring"
	"github.com/keelson-dev/keelson/controllers/garbagecollector"
	"github.com/keelson-dev/keelson/controllers/internal/servicepods"
	"github.com/keelson-dev/keelson/controllers/job"
	"github.com/keelson-dev/keelson/controllers/loadbalancer"
	"github.com/keelson-dev/keelson/controllers/namespace"
	"github.com/keelson-dev/keelson/controllers/node"
	"github.com/keelson-dev/keelson/controllers/nodeaccess"
	"github.com/keelson-dev/keelson/controllers/podgc"
	"github.com/keelson-dev/keelson/controllers/replicaset"
	"github.com/keelson-dev/keelson/controllers/replication"
	"github.com/keelson-dev/keelson/controllers/resourcequota"
	"github.com/keelson-dev/keelson/controllers/rootca"
	"github.com/keelson-dev/keelson/controllers/scheduler"
	"github.com/keelson-dev/keelson/controllers/service"
	"github.com/keelson-dev/keelson/controllers/serviceaccount"
	"github.com/keelson-dev/keelson/controllers/servicemirror"
	"github.com/keelson-dev/keelson/controllers/statefulset"
	"github.com/keelson-dev/keelson/controllers/storageprotection"
	"github.com/keelson-dev/keelson/controllers/tainteviction"
	"github.com/keelson-dev/keelson/controllers/tokens"
	"github.com/keelson-dev/keelson/controllers/ttlafterfinished"
	"github.com/keelson-dev/keelson/internal/addrpool"
	"github.com/keelson-dev/keelson/internal/ranges"
)

// controller is one line of the list below.
type controller struct {
	// name is what --controllers calls it.
	name string
	// hygiene marks what a stock controller manager does too: off in guest mode.
	hygiene bool
	add     func(ctrl.Manager, Options) error
}

// plain is a controller that takes nothing from the manager's options.
func plain[O any](add func(ctrl.Manager, O) error) func(ctrl.Manager, Options) error {
	return func(mgr ctrl.Manager, _ Options) error {
		var defaults O
		return add(mgr, defaults)
	}
}

// bare is one that has no options at all.
func bare(add func(ctrl.Manager) error) func(ctrl.Manager, Options) error {
	return func(mgr ctrl.Manager, _ Options) error { return add(mgr) }
}

// controllers is everything that the manager runs.
func controllers() []controller { return slices.Concat(ownControllers(), hygieneControllers()) }

// ownControllers look after Keelson's own kinds.
func ownControllers() []controller {
	servicePods := &servicepods.Index{}
	return []controller{
		// Serves on every replica; all others work on the leader only.
		{name: "admission", add: func(mgr ctrl.Manager, o Options) error {
			return admission.Add(mgr, admission.Options{
				ServiceCIDR: o.ServiceCIDR, NodePortRange: o.NodePortRange, URL: o.Webhook.URL,
			})
		}},
		{name: "replication", add: plain(replication.Add)},
		{name: "replicaset", add: plain(replicaset.Add)},
		{name: "daemonset", add: plain(daemonset.Add)},
		{name: "statefulset", add: plain(statefulset.Add)},
		{name: "deployment", add: plain(deployment.Add)},
		{name: "job", add: plain(job.Add)},
		{name: "cronjob", add: plain(cronjob.Add)},
		{name: "ttlafterfinished", add: plain(ttlafterfinished.Add)},
		{name: "horizontalpodautoscaling", add: addAutoscaler},
		{name: "endpoints", add: func(mgr ctrl.Manager, _ Options) error {
			return endpoints.Add(mgr, endpoints.Options{Pods: servicePods})
		}},
		{name: "endpointslice", add: func(mgr ctrl.Manager, _ Options) error {
			return endpointslice.Add(mgr, endpointslice.Options{Pods: servicePods})
		}},
		{name: "endpointslicemirroring", add: plain(endpointslicemirroring.Add)},
		{name: "service", add: func(mgr ctrl.Manager, o Options) error {
			return service.Add(mgr, service.Options{
				ServiceCIDR: o.ServiceCIDR, NodePortRange: o.NodePortRange,
				KubernetesServiceEndpoints: o.KubernetesServiceEndpoints, RegisteredAPIServers: o.KubernetesServiceRegisteredOnly,
			})
		}},
		{name: loadbalancer.Name, add: func(mgr ctrl.Manager, o Options) error {
			pool, err := addrpool.Parse(o.LoadBalancerPool)
			if err != nil {
				return err
			}
			return loadbalancer.Add(mgr, loadbalancer.Options{Pool: pool})
		}},
		{name: "scheduler", add: func(mgr ctrl.Manager, o Options) error {
			return scheduler.Add(mgr, scheduler.Options{SchedulerName: o.SchedulerName, ConfigFile: o.SchedulerConfig})
		}},
		{name: "node", add: addNode},
		{name: "tainteviction", add: plain(tainteviction.Add)},
		{name: "nodeaccess", add: plain(nodeaccess.Add)},
		{name: "disruption", add: plain(disruption.Add)},
		{name: "resourcequota", add: plain(resourcequota.Add)},
		{name: "podgc", add: func(mgr ctrl.Manager, o Options) error {
			return podgc.Add(mgr, podgc.Options{TerminatedThreshold: o.TerminatedPodGCThreshold})
		}},
		// Its signers are Keelson's own, which no other controller manager signs for.
		{name: "csr", add: func(mgr ctrl.Manager, o Options) error {
			reserved, err := o.reservedAddresses()
			if err != nil {
				return err
			}
			return csr.Add(mgr, csr.Options{
				CertFile: o.ClusterSigningCertFile, KeyFile: o.ClusterSigningKeyFile, Duration: o.ClusterSigningDuration.Duration, Reserved: reserved,
			})
		}},
	}
}

// hygieneControllers look after the kinds of a bare API server.
func hygieneControllers() []controller {
	return []controller{
		{name: "garbagecollector", hygiene: true, add: plain(garbagecollector.Add)},
		{name: "namespace", hygiene: true, add: plain(namespace.Add)},
		{name: "serviceaccount", hygiene: true, add: bare(serviceaccount.Add)},
		{name: "rootca", hygiene: true, add: func(mgr ctrl.Manager, o Options) error {
			return rootca.Add(mgr, rootca.Options{File: o.RootCAFile})
		}},
		// An API server elsewhere cannot reach our Services, and has its own.
		{name: "servicemirror", hygiene: true, add: bare(servicemirror.Add)},
		{name: "clusterroleaggregation", hygiene: true, add: bare(clusterroleaggregation.Add)},
		{name: "storageprotection", hygiene: true, add: bare(storageprotection.Add)},
		{name: "csrcleaner", hygiene: true, add: plain(csrcleaner.Add)},
		{name: "tokens", hygiene: true, add: addTokens},
	}
}

func addTokens(mgr ctrl.Manager, o Options) error {
	options := tokens.Options{KeyFile: o.ServiceAccountPrivateKeyFile, UnusedFor: o.LegacyTokenCleanUpPeriod.Duration}
	if options.KeyFile != "" {
		bundle, err := rootca.LoadBundle(o.RootCAFile, mgr.GetConfig())
		if err != nil {
			return err
		}
		options.RootCA = []byte(bundle)
	}
	return tokens.Add(mgr, options)
}

func addNode(mgr ctrl.Manager, o Options) error {
	cluster, err := ranges.Parse("--cluster-cidr", o.ClusterCIDR)
	if err != nil {
		return err
	}
	v4, v6 := o.maskSizes()
	return node.Add(mgr, node.Options{
		ClusterCIDRs: cluster, MaskSize4: v4, MaskSize6: v6,
		GracePeriod: o.NodeMonitorGracePeriod.Duration,
		Rates: node.Rates{
			Eviction: o.NodeEvictionRate, Secondary: o.SecondaryNodeEvictionRate,
			UnhealthyZone: o.UnhealthyZoneThreshold, LargeCluster: o.LargeClusterSizeThreshold,
		},
	})
}

func names() []string {
	var all []string
	for _, c := range controllers() {
		all = append(all, c.name)
	}
	return all
}

func hygieneNames() []string {
	var hygiene []string
	for _, c := range controllers() {
		if c.hygiene {
			hygiene = append(hygiene, c.name)
		}
	}
	return hygiene
}
