package manager

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cliflag "k8s.io/component-base/cli/flag"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/svcranges"
	"github.com/keelson-dev/keelson/controllers/node"
	"github.com/keelson-dev/keelson/controllers/scheduler"
	"github.com/keelson-dev/keelson/internal/addrpool"
	"github.com/keelson-dev/keelson/internal/ranges"
)

// Mode says who else looks after the API server.
type Mode string

const (
	// Standalone is a bare API server: the manager also runs the hygiene
	// controllers (namespaces, garbage collection, service accounts, root certificates).
	Standalone Mode = "standalone"
	// Guest is a cluster with a controller manager of its own.
	Guest Mode = "guest"
)

// Options are the settings of the manager; the JSON names are those of its config
// file.
type Options struct {
	// Kubeconfig is the path of the credentials; empty means the Pod's own account.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// Mode decides whether "*" in Controllers includes the hygiene controllers.
	Mode Mode `json:"mode,omitempty"`
	// Controllers lists what runs: "*" for all that are on by default, "name" to
	// switch one on, "-name" to switch one off.
	Controllers []string `json:"controllers,omitempty"`

	LeaderElection LeaderElection `json:"leaderElection,omitempty"`

	// ServiceCIDR is the range of cluster addresses of Services: one, or one of each
	// family, separated by a comma, the primary one first.
	ServiceCIDR string `json:"serviceCIDR,omitempty"`
	// ClusterCIDR is the range that Nodes get their Pod ranges from, written likewise.
	ClusterCIDR string `json:"clusterCIDR,omitempty"`
	// NodeCIDRMaskSize is the prefix length of one Node's IPv4 range where that is the
	// only one; NodeCIDRMaskSizeIPv4 is the same in any cluster, NodeCIDRMaskSizeIPv6
	// that of its IPv6 range. 0 means 24, and 64 for IPv6.
	NodeCIDRMaskSize     int `json:"nodeCIDRMaskSize,omitempty"`
	NodeCIDRMaskSizeIPv4 int `json:"nodeCIDRMaskSizeIPv4,omitempty"`
	NodeCIDRMaskSizeIPv6 int `json:"nodeCIDRMaskSizeIPv6,omitempty"`
	// NodePortRange is "first-last", both included.
	NodePortRange string `json:"nodePortRange,omitempty"`
	// LoadBalancerPool are the ranges and prefixes of addresses of Services of type
	// LoadBalancer; empty means that those get none.
	LoadBalancerPool []string `json:"loadBalancerPool,omitempty"`
	// KubernetesServiceEndpoints are the addresses (ip:port) at which Pods reach the
	// API server; empty means that no "kubernetes" Service is kept.
	KubernetesServiceEndpoints []string `json:"kubernetesServiceEndpoints,omitempty"`
	// KubernetesServiceRegisteredOnly leaves out those on machines whose API server has
	// not registered itself, or is gone.
	KubernetesServiceRegisteredOnly bool `json:"kubernetesServiceRegisteredOnly,omitempty"`

	// RootCAFile is the PEM bundle by which Pods verify the API server; empty means
	// the one of the manager's own credentials.
	RootCAFile string `json:"rootCAFile,omitempty"`

	// ClusterSigningCertFile and ClusterSigningKeyFile are the PEM files of the authority
	// that signs the certificates of nodes; both empty means that none are signed.
	ClusterSigningCertFile string `json:"clusterSigningCertFile,omitempty"`
	ClusterSigningKeyFile  string `json:"clusterSigningKeyFile,omitempty"`
	// ClusterSigningDuration is the longest life of such a certificate.
	ClusterSigningDuration metav1.Duration `json:"clusterSigningDuration,omitempty"`
	// ServiceAccountPrivateKeyFile is the private key (PEM) that the API server trusts
	// tokens of; empty means that Secrets of accounts are not filled.
	ServiceAccountPrivateKeyFile string `json:"serviceAccountPrivateKeyFile,omitempty"`
	// LegacyTokenCleanUpPeriod is how long a token that a cluster of old made must be
	// unused before it is marked invalid, and as long again before it is deleted.
	LegacyTokenCleanUpPeriod metav1.Duration `json:"legacyTokenCleanUpPeriod,omitempty"`

	// NodeMonitorGracePeriod is how long a Node may be silent before its Ready
	// condition becomes Unknown.
	NodeMonitorGracePeriod metav1.Duration `json:"nodeMonitorGracePeriod,omitempty"`
	// TerminatedPodGCThreshold is how many Pods that have ended may stay; 0 means all.
	TerminatedPodGCThreshold int `json:"terminatedPodGCThreshold,omitempty"`
	// NodeEvictionRate is how many silent nodes per second and zone lose their Pods,
	// SecondaryNodeEvictionRate the same in a zone of more than LargeClusterSizeThreshold
	// nodes of which the share UnhealthyZoneThreshold is silent; in a smaller one nobody
	// does.
	NodeEvictionRate          float64 `json:"nodeEvictionRate,omitempty"`
	SecondaryNodeEvictionRate float64 `json:"secondaryNodeEvictionRate,omitempty"`
	UnhealthyZoneThreshold    float64 `json:"unhealthyZoneThreshold,omitempty"`
	LargeClusterSizeThreshold int     `json:"largeClusterSizeThreshold,omitempty"`

	Autoscaler Autoscaler `json:"autoscaler,omitempty"`
	NodeAgent  NodeAgent  `json:"nodeAgent,omitempty"`

	// SchedulerName is the value of spec.schedulerName of the Pods to schedule.
	SchedulerName string `json:"schedulerName,omitempty"`
	// SchedulerConfig is the path of a KubeSchedulerConfiguration, whose profiles take the
	// place of SchedulerName; empty means upstream's defaults.
	SchedulerConfig string `json:"schedulerConfig,omitempty"`

	Webhook Webhook `json:"webhook,omitempty"`

	// MetricsBindAddress serves /metrics over plain HTTP; "0" switches it off.
	MetricsBindAddress string `json:"metricsBindAddress,omitempty"`
	// HealthBindAddress serves /healthz and /readyz; "0" switches it off.
	HealthBindAddress string `json:"healthBindAddress,omitempty"`

	// ReconciliationTimeout ends one reconcile that waits for an answer or for its
	// own writes to come back through the watch.
	ReconciliationTimeout metav1.Duration `json:"reconciliationTimeout,omitempty"`
}

// LeaderElection is how replicas agree on the one that works.
type LeaderElection struct {
	// Enabled false is for one replica only; two would fight.
	Enabled bool `json:"enabled"`
	// Name and Namespace are those of the Lease.
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	// Identity is this replica's name in the Lease, unique among replicas; empty means
	// a new one for each process. A replica that keeps its name leads again at once
	// after it was killed.
	Identity string `json:"identity,omitempty"`
	// LeaseDuration is how long others wait for a silent leader.
	LeaseDuration metav1.Duration `json:"leaseDuration,omitempty"`
	// RenewDeadline is how long a leader keeps working without a renewal.
	RenewDeadline metav1.Duration `json:"renewDeadline,omitempty"`
	// RetryPeriod is the time between two attempts.
	RetryPeriod metav1.Duration `json:"retryPeriod,omitempty"`
}

// Webhook is where admission is served.
type Webhook struct {
	BindAddress string `json:"bindAddress,omitempty"`
	Port        int    `json:"port,omitempty"`
	// URL is the address the API server calls where it cannot use a Service, such as
	// https://localhost:9443; empty means the Service of config/webhook.
	URL string `json:"url,omitempty"`
}

const year = 365 * 24 * time.Hour

// NewOptions returns the defaults.
func NewOptions() *Options {
	rates := node.DefaultRates()
	return &Options{
		Mode:        Standalone,
		Controllers: []string{"*"},
		LeaderElection: LeaderElection{
			Enabled:       true,
			Name:          "keelson-manager",
			Namespace:     keelsonv1.SystemNamespace,
			LeaseDuration: metav1.Duration{Duration: 15 * time.Second},
			RenewDeadline: metav1.Duration{Duration: 10 * time.Second},
			RetryPeriod:   metav1.Duration{Duration: 2 * time.Second},
		},
		ServiceCIDR:              "10.254.0.0/16",
		ClusterCIDR:              "10.244.0.0/16",
		NodePortRange:            "30000-32767",
		NodeMonitorGracePeriod:   metav1.Duration{Duration: 40 * time.Second},
		TerminatedPodGCThreshold: 12500,
		ClusterSigningDuration:   metav1.Duration{Duration: year},
		LegacyTokenCleanUpPeriod: metav1.Duration{Duration: year},
		NodeEvictionRate:         rates.Eviction, SecondaryNodeEvictionRate: rates.Secondary,
		UnhealthyZoneThreshold: rates.UnhealthyZone, LargeClusterSizeThreshold: rates.LargeCluster,
		Autoscaler:            newAutoscaler(),
		SchedulerName:         keelsonv1.DefaultSchedulerName,
		Webhook:               Webhook{BindAddress: "0.0.0.0", Port: 9443},
		MetricsBindAddress:    "127.0.0.1:8080",
		HealthBindAddress:     "127.0.0.1:8081",
		ReconciliationTimeout: metav1.Duration{Duration: time.Minute},
	}
}

// AddFlags binds flags to the fields; the current values are the defaults.
func (o *Options) AddFlags(fss *cliflag.NamedFlagSets) {
	o.addGenericFlags(fss)
	o.addLeaderElectionFlags(fss)
	o.addClusterFlags(fss)
	o.addAutoscalerFlags(fss)
	o.addKeyFlags(fss)
	o.addServingFlags(fss)
}

func (o *Options) addGenericFlags(fss *cliflag.NamedFlagSets) {
	fs := fss.FlagSet("generic")
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "Path of the kubeconfig file. Empty: the account of the Pod this runs in.")
	fs.StringVar((*string)(&o.Mode), "mode", string(o.Mode), "'standalone' on a bare API server, 'guest' in a cluster that has a controller manager: there the hygiene controllers ("+strings.Join(hygieneNames(), ", ")+") are off unless named.")
	fs.StringSliceVar(&o.Controllers, "controllers", o.Controllers, "What to run: '*' is everything on by default, 'name' switches one on, '-name' one off. Names: "+strings.Join(names(), ", ")+".")
	fs.DurationVar(&o.ReconciliationTimeout.Duration, "reconciliation-timeout", o.ReconciliationTimeout.Duration, "Longest time of one reconcile before it is tried again.")
}

func (o *Options) addLeaderElectionFlags(fss *cliflag.NamedFlagSets) {
	fs := fss.FlagSet("leader election")
	l := &o.LeaderElection
	fs.BoolVar(&l.Enabled, "leader-elect", l.Enabled, "Work only as the elected leader. Switch off for a single replica only.")
	fs.StringVar(&l.Name, "leader-elect-resource-name", l.Name, "Name of the Lease.")
	fs.StringVar(&l.Namespace, "leader-elect-resource-namespace", l.Namespace, "Namespace of the Lease.")
	fs.StringVar(&l.Identity, "leader-elect-identity", l.Identity, "This replica's name in the Lease, unique among replicas: with it a killed leader leads again as soon as it is back. Empty is a new name for each process.")
	fs.DurationVar(&l.LeaseDuration.Duration, "leader-elect-lease-duration", l.LeaseDuration.Duration, "How long the others wait for a silent leader.")
	fs.DurationVar(&l.RenewDeadline.Duration, "leader-elect-renew-deadline", l.RenewDeadline.Duration, "How long a leader works on without a renewal; less than the lease duration.")
	fs.DurationVar(&l.RetryPeriod.Duration, "leader-elect-retry-period", l.RetryPeriod.Duration, "Time between two attempts to get or renew the Lease.")
}

func (o *Options) addClusterFlags(fss *cliflag.NamedFlagSets) {
	fs := fss.FlagSet("cluster")
	fs.StringVar(&o.ServiceCIDR, "service-cidr", o.ServiceCIDR, "Range of Service addresses; or two, one of IPv4 and one of IPv6, separated by a comma, the primary one first.")
	fs.StringVar(&o.ClusterCIDR, "cluster-cidr", o.ClusterCIDR, "Range of Pod addresses; or two, as in --service-cidr.")
	fs.IntVar(&o.NodeCIDRMaskSize, "node-cidr-mask-size", o.NodeCIDRMaskSize, "Prefix length of the Pod range of one Node, in a cluster of one family. 0: 24.")
	fs.IntVar(&o.NodeCIDRMaskSizeIPv4, "node-cidr-mask-size-ipv4", o.NodeCIDRMaskSizeIPv4, "Prefix length of the IPv4 Pod range of one Node. 0: 24.")
	fs.IntVar(&o.NodeCIDRMaskSizeIPv6, "node-cidr-mask-size-ipv6", o.NodeCIDRMaskSizeIPv6, "Prefix length of the IPv6 Pod range of one Node. 0: 64.")
	fs.StringVar(&o.NodePortRange, "node-port-range", o.NodePortRange, "Ports for NodePort Services, first-last.")
	fs.StringSliceVar(&o.LoadBalancerPool, "load-balancer-pool", o.LoadBalancerPool, "Addresses for Services of type LoadBalancer: ranges such as 198.51.100.10-198.51.100.50 and prefixes such as fd00:5::/112, which belong to nobody else. The nodes announce them if they have the same flag. Empty: such Services get no address.")
	fs.StringSliceVar(&o.KubernetesServiceEndpoints, "kubernetes-service-endpoints", o.KubernetesServiceEndpoints, "Addresses (ip:port) behind the 'kubernetes' Service. Empty: no such Service.")
	fs.BoolVar(&o.KubernetesServiceRegisteredOnly, "kubernetes-service-registered-only", o.KubernetesServiceRegisteredOnly,
		"Of several API servers, lead the 'kubernetes' Service only to the machines of those that are there: that have registered themselves (kube-apiserver --endpoint-reconciler-type=lease) with an address of --kubernetes-service-endpoints. Where none has, to all.")
	fs.StringVar(&o.RootCAFile, "root-ca-file", o.RootCAFile, "PEM file of the certificates by which Pods verify the API server, published in every namespace as ConfigMap kube-root-ca.crt. Empty: those of the credentials in use.")
	fs.DurationVar(&o.NodeMonitorGracePeriod.Duration, "node-monitor-grace-period", o.NodeMonitorGracePeriod.Duration, "How long a Node may be silent before it counts as unreachable.")
	fs.IntVar(&o.TerminatedPodGCThreshold, "terminated-pod-gc-threshold", o.TerminatedPodGCThreshold, "How many Pods that have ended may stay before the oldest are deleted. 0 or less: all.")
	fs.Float64Var(&o.NodeEvictionRate, "node-eviction-rate", o.NodeEvictionRate, "Silent Nodes per second and zone whose Pods are sent away.")
	fs.Float64Var(&o.SecondaryNodeEvictionRate, "secondary-node-eviction-rate", o.SecondaryNodeEvictionRate, "The same in a large zone of which a good part is silent; in a small one it is 0.")
	fs.Float64Var(&o.UnhealthyZoneThreshold, "unhealthy-zone-threshold", o.UnhealthyZoneThreshold, "Share of silent Nodes from which on that is so (at least 3).")
	fs.IntVar(&o.LargeClusterSizeThreshold, "large-cluster-size-threshold", o.LargeClusterSizeThreshold, "Number of Nodes above which a zone is large.")
	fs.StringVar(&o.SchedulerName, "scheduler-name", o.SchedulerName, "Schedules the Pods whose spec.schedulerName is this, unless --scheduler-config names profiles.")
	fs.StringVar(&o.SchedulerConfig, "scheduler-config", o.SchedulerConfig, "Path of a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): profiles, plug-ins with their weights and arguments, backoff. Empty: upstream's defaults.")
}

func (o *Options) addKeyFlags(fss *cliflag.NamedFlagSets) {
	fs := fss.FlagSet("keys")
	fs.StringVar(&o.ClusterSigningCertFile, "cluster-signing-cert-file", o.ClusterSigningCertFile, "PEM file of the authority that signs certificates of nodes (signers keelson.dev/node-client and keelson.dev/node-serving). Empty: none are signed.")
	fs.StringVar(&o.ClusterSigningKeyFile, "cluster-signing-key-file", o.ClusterSigningKeyFile, "PEM file of its private key.")
	fs.DurationVar(&o.ClusterSigningDuration.Duration, "cluster-signing-duration", o.ClusterSigningDuration.Duration, "Longest life of such a certificate; a request may ask for less.")
	fs.StringVar(&o.ServiceAccountPrivateKeyFile, "service-account-private-key-file", o.ServiceAccountPrivateKeyFile, "PEM file of the key (RSA or ECDSA) that signs the tokens in Secrets of type kubernetes.io/service-account-token; the API server knows its public half. Empty: such Secrets are not filled.")
	fs.DurationVar(&o.LegacyTokenCleanUpPeriod.Duration, "legacy-service-account-token-clean-up-period", o.LegacyTokenCleanUpPeriod.Duration, "How long a token that a cluster of old made for every account must be unused before it is marked invalid, and as long again before it is deleted.")
}

func (o *Options) addServingFlags(fss *cliflag.NamedFlagSets) {
	fs := fss.FlagSet("serving")
	fs.StringVar(&o.Webhook.BindAddress, "webhook-bind-address", o.Webhook.BindAddress, "Address on which admission is served.")
	fs.IntVar(&o.Webhook.Port, "webhook-port", o.Webhook.Port, "Port on which admission is served.")
	fs.StringVar(&o.Webhook.URL, "webhook-url", o.Webhook.URL, "URL at which the API server calls admission, where it cannot use a Service (https://localhost:9443).")
	fs.StringVar(&o.MetricsBindAddress, "metrics-bind-address", o.MetricsBindAddress, "Address of /metrics (plain HTTP); 0 switches it off.")
	fs.StringVar(&o.HealthBindAddress, "health-bind-address", o.HealthBindAddress, "Address of /healthz and /readyz; 0 switches it off.")
}

// Validate returns every problem at once, each naming its flag.
func (o *Options) Validate() error {
	return errors.Join(
		o.validateMode(),
		o.validateControllers(),
		o.validateLeaderElection(),
		o.validateRanges(),
		o.validateEndpoints(),
		o.validateServing(),
		positive("--node-monitor-grace-period", o.NodeMonitorGracePeriod),
		o.validateEviction(),
		o.validateKeys(),
		positive("--reconciliation-timeout", o.ReconciliationTimeout),
		notEmpty("--scheduler-name", o.SchedulerName),
		o.validateScheduler(),
		o.validateAutoscaler(),
	)
}

func (o *Options) validateEviction() error {
	var problems []error
	for flag, rate := range map[string]float64{"--node-eviction-rate": o.NodeEvictionRate, "--secondary-node-eviction-rate": o.SecondaryNodeEvictionRate} {
		if rate < 0 {
			problems = append(problems, fmt.Errorf("%s: %v is negative: set Nodes per second, or 0 for none", flag, rate))
		}
	}
	if share := o.UnhealthyZoneThreshold; share < 0 || share > 1 {
		problems = append(problems, fmt.Errorf("--unhealthy-zone-threshold: %v is no share: set one from 0 to 1", share))
	}
	if o.LargeClusterSizeThreshold < 0 {
		problems = append(problems, fmt.Errorf("--large-cluster-size-threshold: %d is negative", o.LargeClusterSizeThreshold))
	}
	return errors.Join(problems...)
}

func (o *Options) validateKeys() error {
	errs := []error{
		positive("--cluster-signing-duration", o.ClusterSigningDuration),
		positive("--legacy-service-account-token-clean-up-period", o.LegacyTokenCleanUpPeriod),
	}
	switch {
	case o.ClusterSigningCertFile != "" && o.ClusterSigningKeyFile == "":
		errs = append(errs, errors.New("--cluster-signing-key-file: must be set with --cluster-signing-cert-file"))
	case o.ClusterSigningCertFile == "" && o.ClusterSigningKeyFile != "":
		errs = append(errs, errors.New("--cluster-signing-cert-file: must be set with --cluster-signing-key-file"))
	}
	return errors.Join(errs...)
}

func (o *Options) validateScheduler() error {
	if o.SchedulerConfig == "" {
		return nil
	}
	if o.SchedulerName != "" && o.SchedulerName != keelsonv1.DefaultSchedulerName {
		return fmt.Errorf("--scheduler-name: %q has no effect with --scheduler-config: name a profile so", o.SchedulerName)
	}
	if err := scheduler.CheckConfig(o.SchedulerConfig); err != nil {
		return fmt.Errorf("--scheduler-config: %w", err)
	}
	return nil
}

func (o *Options) validateMode() error {
	if o.Mode == Standalone || o.Mode == Guest {
		return nil
	}
	return fmt.Errorf("--mode: %q is neither %q nor %q", o.Mode, Standalone, Guest)
}

func (o *Options) validateControllers() error {
	var errs []error
	known := names()
	for _, entry := range o.Controllers {
		name := strings.TrimPrefix(entry, "-")
		if entry != "*" && !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("--controllers: no controller %q; there are %s", name, strings.Join(known, ", ")))
		}
	}
	return errors.Join(errs...)
}

func (o *Options) validateLeaderElection() error {
	l := o.LeaderElection
	if !l.Enabled {
		return nil
	}
	errs := []error{
		notEmpty("--leader-elect-resource-name", l.Name),
		notEmpty("--leader-elect-resource-namespace", l.Namespace),
		positive("--leader-elect-retry-period", l.RetryPeriod),
	}
	if l.LeaseDuration.Duration <= l.RenewDeadline.Duration {
		errs = append(errs, fmt.Errorf("--leader-elect-lease-duration: %s must be longer than --leader-elect-renew-deadline %s", l.LeaseDuration.Duration, l.RenewDeadline.Duration))
	}
	// The elector adds up to 20 % to the retry period.
	if l.RenewDeadline.Duration <= l.RetryPeriod.Duration*6/5 {
		errs = append(errs, fmt.Errorf("--leader-elect-renew-deadline: %s must be longer than 1.2 times --leader-elect-retry-period %s", l.RenewDeadline.Duration, l.RetryPeriod.Duration))
	}
	return errors.Join(errs...)
}

func (o *Options) validateRanges() error {
	var errs []error
	services, err := ranges.Parse("--service-cidr", o.ServiceCIDR)
	errs = append(errs, err)
	if _, err := svcranges.ParseServiceCIDRs(o.ServiceCIDR); err != nil && services != nil {
		errs = append(errs, fmt.Errorf("--service-cidr: %w", err)) // its size
	}
	pods, err := ranges.Parse("--cluster-cidr", o.ClusterCIDR)
	errs = append(errs, err, ranges.CheckPair("--service-cidr", services, "--cluster-cidr", pods))
	if pods != nil {
		errs = append(errs, o.validateMaskSizes(pods))
	}
	errs = append(errs, o.validatePool(services, pods))
	if _, err := svcranges.ParseNodePortRange(o.NodePortRange); err != nil {
		errs = append(errs, fmt.Errorf("--node-port-range: %w", err))
	}
	return errors.Join(errs...)
}

func (o *Options) validatePool(services, pods ranges.List) error {
	pool, err := addrpool.Parse(o.LoadBalancerPool)
	if err := errors.Join(err, pool.CheckApart("--service-cidr", services), pool.CheckApart("--cluster-cidr", pods)); err != nil {
		return fmt.Errorf("--load-balancer-pool: %w", err)
	}
	return nil
}

// validateMaskSizes follows upstream: --node-cidr-mask-size is for clusters of one
// family, and a family that the cluster lacks has no size.
func (o *Options) validateMaskSizes(pods ranges.List) error {
	var errs []error
	if o.NodeCIDRMaskSize != 0 && len(pods) > 1 {
		errs = append(errs, errors.New("--node-cidr-mask-size: is not allowed in dual-stack clusters: use --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6"))
	}
	if o.NodeCIDRMaskSize != 0 && o.NodeCIDRMaskSizeIPv4 != 0 && o.NodeCIDRMaskSize != o.NodeCIDRMaskSizeIPv4 {
		errs = append(errs, errors.New("--node-cidr-mask-size-ipv4: contradicts --node-cidr-mask-size: give one of them"))
	}
	if o.NodeCIDRMaskSizeIPv6 != 0 && !pods.V6().IsValid() {
		errs = append(errs, fmt.Errorf("--node-cidr-mask-size-ipv6: --cluster-cidr %s has no IPv6 range", pods))
	}
	v4, v6 := o.maskSizes()
	flag := "--node-cidr-mask-size"
	if o.NodeCIDRMaskSize == 0 {
		flag = "--node-cidr-mask-size-ipv4"
	}
	errs = append(errs, checkMaskSize(flag, v4, pods.V4(), maxMaskSize4))
	if pods.V6().IsValid() {
		errs = append(errs, checkMaskSize("--node-cidr-mask-size-ipv6", v6, pods.V6(), min(maxMaskSize6, pods.V6().Bits()+maxRangeBits6)))
	}
	return errors.Join(errs...)
}

const (
	// A range needs room for a gateway and a Pod.
	maxMaskSize4 = 30
	maxMaskSize6 = 126
	// maxRangeBits6 bounds the number of Nodes, as upstream does.
	maxRangeBits6 = 16
)

func checkMaskSize(flag string, size int, cluster netip.Prefix, most int) error {
	if size < cluster.Bits() || size > most {
		return fmt.Errorf("%s: %d is outside %d-%d for --cluster-cidr %s", flag, size, cluster.Bits(), most, cluster)
	}
	return nil
}

// maskSizes returns the sizes of a Node's ranges, defaults included.
func (o *Options) maskSizes() (v4, v6 int) {
	return cmp.Or(o.NodeCIDRMaskSize, o.NodeCIDRMaskSizeIPv4, 24), cmp.Or(o.NodeCIDRMaskSizeIPv6, 64)
}

func (o *Options) validateEndpoints() error {
	var errs []error
	for _, endpoint := range o.KubernetesServiceEndpoints {
		if _, err := netip.ParseAddrPort(endpoint); err != nil {
			errs = append(errs, fmt.Errorf("--kubernetes-service-endpoints: %q is not ip:port: %w", endpoint, err))
		}
	}
	if o.KubernetesServiceRegisteredOnly && len(o.KubernetesServiceEndpoints) == 0 {
		errs = append(errs, errors.New("--kubernetes-service-registered-only: needs the addresses of all API servers in --kubernetes-service-endpoints"))
	}
	return errors.Join(errs...)
}

func (o *Options) validateServing() error {
	errs := []error{
		validateBindAddress("--metrics-bind-address", o.MetricsBindAddress),
		validateBindAddress("--health-bind-address", o.HealthBindAddress),
	}
	if o.Webhook.Port < 1 || o.Webhook.Port > 65535 {
		errs = append(errs, fmt.Errorf("--webhook-port: %d is outside 1-65535", o.Webhook.Port))
	}
	if o.Webhook.BindAddress != "" && net.ParseIP(o.Webhook.BindAddress) == nil {
		errs = append(errs, fmt.Errorf("--webhook-bind-address: %q is not an IP address", o.Webhook.BindAddress))
	}
	if o.Webhook.URL != "" {
		if u, err := url.Parse(o.Webhook.URL); err != nil || u.Scheme != "https" || u.Host == "" {
			errs = append(errs, fmt.Errorf("--webhook-url: %q is not an https URL such as https://localhost:9443", o.Webhook.URL))
		}
	}
	return errors.Join(errs...)
}

// enabled tells whether a controller runs: the last word about its name counts,
// then "*".
func (o *Options) enabled(c controller) bool {
	all := false
	for _, entry := range slices.Backward(o.Controllers) {
		switch entry {
		case c.name:
			return true
		case "-" + c.name:
			return false
		case "*":
			all = true
		}
	}
	return all && (!c.hygiene || o.Mode != Guest)
}

func validateBindAddress(flag, value string) error {
	if value == "0" {
		return nil
	}
	if _, _, err := net.SplitHostPort(value); err != nil {
		return fmt.Errorf("%s: %q is neither host:port nor 0: %w", flag, value, err)
	}
	return nil
}

func positive(flag string, d metav1.Duration) error {
	if d.Duration > 0 {
		return nil
	}
	return fmt.Errorf("%s: %s must be more than 0", flag, d.Duration)
}

func notEmpty(flag, value string) error {
	if value != "" {
		return nil
	}
	return fmt.Errorf("%s: must not be empty", flag)
}
