package support

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var specPath = field.NewPath("spec")

// paths shows which fields the errors name, sorted.
func paths(errs field.ErrorList) []string {
	var all []string
	for _, e := range errs {
		all = append(all, e.Field)
	}
	slices.Sort(all)
	return all
}

func expectPaths(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, paths(errs)); diff != "" {
		t.Errorf("refused fields (-want +got):\n%s\nerrors: %v", diff, errs.ToAggregate())
	}
}

// defaultedPod is what a stock API server makes of one container.
func defaultedPod() *corev1.PodSpec {
	return &corev1.PodSpec{
		Containers: []corev1.Container{{
			Name: "c", Image: "i:1", ImagePullPolicy: corev1.PullIfNotPresent,
			TerminationMessagePath: corev1.TerminationMessagePathDefault, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		}},
		RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: new(int64(30)), DNSPolicy: corev1.DNSClusterFirst,
		ServiceAccountName: "default", DeprecatedServiceAccount: "default", SecurityContext: &corev1.PodSecurityContext{},
		SchedulerName: "default-scheduler", Priority: new(int32(0)), PreemptionPolicy: new(corev1.PreemptLowerPriority),
		EnableServiceLinks: new(true),
		Tolerations: []corev1.Toleration{
			{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(300))},
			{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(300))},
		},
	}
}

func TestCheckPod(t *testing.T) {
	one := resource.MustParse("1")
	for name, tc := range map[string]struct {
		change func(*corev1.PodSpec)
		want   []string
	}{
		"every default passes": {func(*corev1.PodSpec) {}, nil},
		"what is implemented passes": {func(s *corev1.PodSpec) {
			s.NodeName, s.HostNetwork, s.Hostname, s.NodeSelector = "n", true, "h", map[string]string{"a": "b"}
			s.HostAliases = []corev1.HostAlias{{IP: "10.0.0.1", Hostnames: []string{"h"}}}
			s.DNSPolicy, s.DNSConfig = corev1.DNSNone, &corev1.PodDNSConfig{Nameservers: []string{"10.0.0.1"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("1")}}}
			s.OS, s.AutomountServiceAccountToken = &corev1.PodOS{Name: corev1.Linux}, new(false)
			c := &s.Containers[0]
			c.Command, c.Args, c.WorkingDir, c.Env = []string{"a"}, []string{"b"}, "/", []corev1.EnvVar{{Name: "A", Value: "b"}}
			c.Ports = []corev1.ContainerPort{{Name: "p", ContainerPort: 1, HostPort: 1, HostIP: "127.0.0.1", Protocol: corev1.ProtocolUDP}}
			c.Resources = corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": one, "memory": one}, Requests: corev1.ResourceList{"cpu": one}}
		}, nil},
		"values that mean the default pass": {func(s *corev1.PodSpec) {
			s.HostUsers, s.ShareProcessNamespace, s.SetHostnameAsFQDN = new(true), new(false), new(false)
			s.Affinity, s.Containers[0].SecurityContext, s.Volumes = &corev1.Affinity{}, &corev1.SecurityContext{}, []corev1.Volume{}
		}, nil},
		"a refused list is one error at its root": {func(s *corev1.PodSpec) {
			s.ResourceClaims = []corev1.PodResourceClaim{{Name: "a"}, {Name: "b"}}
		}, []string{"spec.resourceClaims"}},
		"volumes of each kind that is made, and of others": {func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{
				{Name: "a", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
				{Name: "b", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumHugePages}}},
				{Name: "c", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{Items: []corev1.KeyToPath{{Key: "k", Path: "p", Mode: new(int32(0o400))}}}}},
				{Name: "d", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "x"}}},
				{Name: "f", VolumeSource: corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{Repository: "https://git.example/x"}}},
				{Name: "e", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
					{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Path: "ca", User: new(int64(7))}},
				}}}},
			}
			s.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "a", MountPath: "/a", SubPathExpr: "$(X)", MountPropagation: new(corev1.MountPropagationHostToContainer)}}
		}, []string{"spec.volumes[3].persistentVolumeClaim", "spec.volumes[4].gitRepo", "spec.volumes[5].projected.sources[1].clusterTrustBundle.user"}},
		"all errors come at once, of each container": {func(s *corev1.PodSpec) {
			s.ResourceClaims = []corev1.PodResourceClaim{{Name: "r"}}
			s.InitContainers = []corev1.Container{{Name: "i", RestartPolicyRules: []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers}}}}
			s.Containers = append(s.Containers, corev1.Container{
				Lifecycle: &corev1.Lifecycle{StopSignal: new(corev1.SIGHUP), PreStop: &corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1)}}},
				LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
					GRPC: &corev1.GRPCAction{Mode: new(corev1.GRPCProbeModeTLS)}, HTTPGet: &corev1.HTTPGetAction{Protocol: new(corev1.HTTPProtocolHTTP2)}}}})
		}, []string{"spec.containers[1].lifecycle.preStop.tcpSocket", "spec.containers[1].lifecycle.stopSignal",
			"spec.containers[1].livenessProbe.grpc.mode", "spec.containers[1].livenessProbe.httpGet.protocol",
			"spec.resourceClaims"}},
		"init containers, sidecars, probes, hooks and rules pass": {func(s *corev1.PodSpec) {
			get := &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("web"), Host: "h", Scheme: corev1.URISchemeHTTPS, HTTPHeaders: []corev1.HTTPHeader{{Name: "a", Value: "b"}}}
			run := &corev1.ExecAction{Command: []string{"true"}}
			probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: run, HTTPGet: get, TCPSocket: &corev1.TCPSocketAction{Host: "h", Port: intstr.FromInt32(1)}, GRPC: &corev1.GRPCAction{Port: 1, Service: new("s")}},
				InitialDelaySeconds: 1, TimeoutSeconds: 1, PeriodSeconds: 1, SuccessThreshold: 1, FailureThreshold: 1, TerminationGracePeriodSeconds: new(int64(1))}
			hook := &corev1.LifecycleHandler{Exec: run, HTTPGet: get, Sleep: &corev1.SleepAction{Seconds: 1}}
			c := corev1.Container{Name: "i", StartupProbe: probe, LivenessProbe: probe, ReadinessProbe: probe,
				Lifecycle: &corev1.Lifecycle{PostStart: hook, PreStop: hook}, RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
				RestartPolicyRules: []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart,
					ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{3}}}}}
			s.InitContainers, s.Containers = []corev1.Container{c}, []corev1.Container{c}
			s.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/ready"}}
			s.ActiveDeadlineSeconds = new(int64(1))
		}, nil},
		"all that the scheduler looks at": {func(s *corev1.PodSpec) {
			selector := &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}, MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "k", Operator: metav1.LabelSelectorOpIn, Values: []string{"v"}}}}
			nodes := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "k", Operator: corev1.NodeSelectorOpIn, Values: []string{"v"}}}}
			nodes.MatchFields = nodes.MatchExpressions
			term := corev1.PodAffinityTerm{TopologyKey: "k", LabelSelector: selector, Namespaces: []string{"n"}, NamespaceSelector: selector, MatchLabelKeys: []string{"m"}, MismatchLabelKeys: []string{"n"}}
			preferred := []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: term}}
			s.Affinity = &corev1.Affinity{
				NodeAffinity: &corev1.NodeAffinity{
					RequiredDuringSchedulingIgnoredDuringExecution:  &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{nodes}},
					PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 1, Preference: nodes}},
				},
				PodAffinity:     &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}, PreferredDuringSchedulingIgnoredDuringExecution: preferred},
				PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}, PreferredDuringSchedulingIgnoredDuringExecution: preferred},
			}
			s.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "k", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: selector,
				MinDomains: new(int32(2)), NodeAffinityPolicy: new(corev1.NodeInclusionPolicyHonor), NodeTaintsPolicy: new(corev1.NodeInclusionPolicyHonor), MatchLabelKeys: []string{"m"}}}
			s.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}}
			s.Priority, s.PriorityClassName, s.PreemptionPolicy = new(int32(5)), "high", new(corev1.PreemptNever)
		}, nil},
		"an ephemeral container as kubectl debug makes it, and what upstream refuses itself": {func(s *corev1.PodSpec) {
			s.EphemeralContainers = []corev1.EphemeralContainer{{TargetContainerName: "c", EphemeralContainerCommon: corev1.EphemeralContainerCommon{
				Name: "debugger", Image: "busybox", Stdin: true, StdinOnce: true, TTY: true, Ports: []corev1.ContainerPort{{}},
				SecurityContext: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_PTRACE"}, Drop: []corev1.Capability{"ALL"}}},
			}}}
		}, nil},
		"an ephemeral container with what no container may have": {func(s *corev1.PodSpec) {
			s.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
				VolumeDevices: []corev1.VolumeDevice{{Name: "v"}}, SecurityContext: &corev1.SecurityContext{ProcMount: new(corev1.UnmaskedProcMount)},
			}}}
		}, []string{"spec.ephemeralContainers[0].volumeDevices"}},
		"user IDs of its own, which the node gives or refuses": {func(s *corev1.PodSpec) {
			s.AutomountServiceAccountToken, s.HostUsers = new(true), new(false)
			s.Containers[0].SecurityContext = &corev1.SecurityContext{ProcMount: new(corev1.UnmaskedProcMount)}
		}, nil},
		"security settings pass": {func(s *corev1.PodSpec) {
			s.HostPID, s.HostIPC = true, true
			s.SecurityContext = &corev1.PodSecurityContext{
				RunAsUser: new(int64(0)), FSGroup: new(int64(1)), SELinuxOptions: &corev1.SELinuxOptions{Level: "s0"}, Sysctls: []corev1.Sysctl{{Name: "a.b", Value: "1"}},
				SeccompProfile:  &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: new("a.json")},
				AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined},
			}
			s.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true), ProcMount: new(corev1.DefaultProcMount)}
		}, nil},
		"what nodes cannot do is refused one by one": {func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}}
			s.Containers[0].SecurityContext = &corev1.SecurityContext{
				ProcMount: new(corev1.UnmaskedProcMount), SELinuxOptions: &corev1.SELinuxOptions{Level: "s0"},
				WindowsOptions: &corev1.WindowsSecurityContextOptions{HostProcess: new(true)},
			}
		}, []string{"spec.containers[0].securityContext.windowsOptions"}},
		"only cpu, memory, ephemeral storage and large pages are counted": {func(s *corev1.PodSpec) {
			s.Containers[0].Resources = corev1.ResourceRequirements{
				Limits:   corev1.ResourceList{"cpu": one, "hugepages-2Mi": one, "example.com/gpu": one, "ephemeral-storage": one},
				Requests: corev1.ResourceList{"ephemeral-storage": one},
				Claims:   []corev1.ResourceClaim{{Name: "c"}}}
		}, []string{"spec.containers[0].resources.claims"}},
		"every protocol": {func(s *corev1.PodSpec) {
			c := &s.Containers[0]
			c.Ports = []corev1.ContainerPort{{ContainerPort: 1, Protocol: corev1.ProtocolTCP}, {ContainerPort: 1, Protocol: corev1.ProtocolSCTP}}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			spec := defaultedPod()
			tc.change(spec)
			expectPaths(t, CheckPod(spec, specPath), tc.want...)
		})
	}
}

func TestMessagesSayWhatIsMissing(t *testing.T) {
	spec := defaultedPod()
	spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "v"}}
	spec.OS = &corev1.PodOS{Name: corev1.Windows}
	var got []string
	for _, e := range CheckPod(spec, specPath) {
		got = append(got, e.Error())
	}
	slices.Sort(got)
	want := []string{
		"spec.os.name: Forbidden: not supported by Keelson yet: nodes run Linux (windows is refused, only linux is allowed)",
		"spec.resourceClaims: Forbidden: not supported by Keelson yet: dynamic resources are not allocated",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestCheckRC(t *testing.T) {
	rc := &corev1.ReplicationControllerSpec{Replicas: new(int32(2)), MinReadySeconds: 3, Selector: map[string]string{"a": "b"}}
	expectPaths(t, CheckRC(rc, specPath))
	rc.Template = &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: *defaultedPod()}
	expectPaths(t, CheckRC(rc, specPath))
	rc.Template.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "r"}}
	rc.Template.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{StopSignal: new(corev1.SIGHUP)}
	expectPaths(t, CheckRC(rc, specPath), "spec.template.spec.containers[0].lifecycle.stopSignal", "spec.template.spec.resourceClaims")
}

// Every field of a Service and of Endpoints is implemented; what a value means is for
// upstream's validation.
func TestCheckService(t *testing.T) {
	spec := &corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.254.0.9", ClusterIPs: []string{"10.254.0.9", "fd00::9"},
		Ports:    []corev1.ServicePort{{Name: "p", Protocol: corev1.ProtocolSCTP, AppProtocol: new("http"), Port: 80, TargetPort: intstr.FromString("web"), NodePort: 30001}},
		Selector: map[string]string{"a": "b"}, PublishNotReadyAddresses: true, SessionAffinity: corev1.ServiceAffinityClientIP,
		SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(10800))}},
		IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack),
		InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyLocal), ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
		ExternalName: "a.example", ExternalIPs: []string{"192.0.2.1"}, TrafficDistribution: new("PreferClose"), HealthCheckNodePort: 30002,
		LoadBalancerIP: "192.0.2.2", LoadBalancerSourceRanges: []string{"192.0.2.0/24"}, AllocateLoadBalancerNodePorts: new(false), LoadBalancerClass: new("a.example/b"),
	}
	expectPaths(t, CheckService(spec, specPath))
}

func TestCheckEndpoints(t *testing.T) {
	subsets := []corev1.EndpointSubset{{
		Addresses:         []corev1.EndpointAddress{{IP: "10.0.0.1", Hostname: "h", NodeName: new("n"), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p"}}},
		NotReadyAddresses: []corev1.EndpointAddress{{IP: "10.0.0.2"}},
		Ports:             []corev1.EndpointPort{{Name: "p", Port: 80, Protocol: corev1.ProtocolSCTP}},
	}}
	expectPaths(t, CheckEndpoints(subsets, field.NewPath("subsets")))
}

func TestCheckEndpointSlice(t *testing.T) {
	slice := &EndpointSliceFields{
		AddressType: upstreamdiscoveryv1.AddressTypeFQDN,
		Endpoints: []upstreamdiscoveryv1.Endpoint{{
			Addresses: []string{"10.0.0.1"}, Conditions: upstreamdiscoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			Hostname: new("h"), NodeName: new("n"), Zone: new("z"), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p"},
			Hints: &upstreamdiscoveryv1.EndpointHints{ForZones: []upstreamdiscoveryv1.ForZone{{Name: "z"}}, ForNodes: []upstreamdiscoveryv1.ForNode{{Name: "n"}}},
		}},
		Ports: []upstreamdiscoveryv1.EndpointPort{{Name: new("p"), Port: new(int32(80)), Protocol: new(corev1.ProtocolTCP), AppProtocol: new("http")}},
	}
	expectPaths(t, CheckEndpointSlice(slice))
	slice.Endpoints[0].DeprecatedTopology = map[string]string{"a": "b"}
	expectPaths(t, CheckEndpointSlice(slice), "endpoints[0].deprecatedTopology")
}

func TestCheckNode(t *testing.T) {
	spec := &corev1.NodeSpec{PodCIDR: "10.244.0.0/24", PodCIDRs: []string{"10.244.0.0/24"}, ProviderID: "x://y", Unschedulable: true,
		Taints: []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectPreferNoSchedule}}}
	expectPaths(t, CheckNode(spec, specPath))
	spec.Taints = append(spec.Taints, corev1.Taint{Key: "b", Effect: corev1.TaintEffectNoExecute})
	//nolint:staticcheck // a field that upstream removed is refused, too
	spec.ConfigSource = &corev1.NodeConfigSource{ConfigMap: &corev1.ConfigMapNodeConfigSource{Name: "x"}}
	expectPaths(t, CheckNode(spec, specPath), "spec.configSource")
}
