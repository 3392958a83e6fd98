package admission

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/controllers/internal/svcranges"
)

// familySpec is what a row says of a Service.
type familySpec struct {
	ips      []string
	families []corev1.IPFamily
	policy   corev1.IPFamilyPolicy
	selector bool
	kind     corev1.ServiceType
}

func (f familySpec) spec() *corev1.ServiceSpec {
	s := &corev1.ServiceSpec{Type: f.kind, ClusterIPs: f.ips, IPFamilies: f.families, Selector: map[string]string{"a": "b"}}
	if len(f.ips) > 0 {
		s.ClusterIP = f.ips[0]
	}
	if f.policy != "" {
		s.IPFamilyPolicy = new(f.policy)
	}
	if f.selector {
		s.Selector = nil
	}
	if s.Type == "" {
		s.Type = corev1.ServiceTypeClusterIP
	}
	return s
}

// The rows are upstream's: what becomes of a Service with each policy on clusters of one
// and of two families.
func TestSettleFamilies(t *testing.T) {
	const (
		v4, v6                  = corev1.IPv4Protocol, corev1.IPv6Protocol
		single, prefer, require = corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack
		one, both, sixFirst     = "10.254.0.0/16", "10.254.0.0/16,fd00:254::/112", "fd00:254::/112,10.254.0.0/16"
		a4, a6                  = "10.254.0.9", "fd00:254::9"
	)
	type fs = familySpec
	four, six := []corev1.IPFamily{v4}, []corev1.IPFamily{v6}
	fourSix, sixFour := []corev1.IPFamily{v4, v6}, []corev1.IPFamily{v6, v4}
	for name, tc := range map[string]struct {
		ranges   string
		user     fs
		old      *fs
		want     fs
		wantErrs []string
	}{
		"nothing said, one family":           {one, fs{}, nil, fs{families: four, policy: single}, nil},
		"nothing said, two families":         {both, fs{}, nil, fs{families: four, policy: single}, nil},
		"nothing said, IPv6 first":           {sixFirst, fs{}, nil, fs{families: six, policy: single}, nil},
		"the other family asked for":         {both, fs{families: six}, nil, fs{families: six, policy: single}, nil},
		"a family that is not there":         {one, fs{families: six}, nil, fs{}, []string{`spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`}},
		"two preferred where there are two":  {both, fs{policy: prefer}, nil, fs{families: fourSix, policy: prefer}, nil},
		"two preferred where there is one":   {one, fs{policy: prefer}, nil, fs{families: four, policy: prefer}, nil},
		"the order of families is the users": {both, fs{families: six, policy: prefer}, nil, fs{families: sixFour, policy: prefer}, nil},
		"two required where there are two":   {both, fs{policy: require}, nil, fs{families: fourSix, policy: require}, nil},
		"two required where there is one":    {one, fs{policy: require}, nil, fs{}, []string{`spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services`}},
		"two families, no policy": {both, fs{families: fourSix}, nil, fs{},
			[]string{`spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified`}},
		"two addresses, no policy": {both, fs{ips: []string{a4, a6}}, nil, fs{},
			[]string{`spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified`}},
		"families of the addresses asked for": {both, fs{ips: []string{a6, a4}, policy: require}, nil, fs{families: sixFour, policy: require, ips: []string{a6, a4}}, nil},
		"an address of another family than said": {both, fs{ips: []string{a6}, families: four}, nil, fs{},
			[]string{"spec.clusterIPs[0]: Invalid value: \"fd00:254::9\": expected an IPv4 value as indicated by `ipFamilies[0]`"}},
		"an address of a family that is not there": {one, fs{ips: []string{a6}}, nil, fs{}, []string{`spec.clusterIPs[0]: Invalid value: ["fd00:254::9"]: IPv6 is not configured on this cluster`}},
		"two addresses of one family": {both, fs{ips: []string{a4, "10.254.0.8"}, policy: require}, nil, fs{},
			[]string{`spec.clusterIPs: Invalid value: ["10.254.0.9","10.254.0.8"]: may specify no more than one IP for each IP family`}},
		"headless with a selector":           {one, fs{ips: []string{"None"}}, nil, fs{ips: []string{"None"}, families: four, policy: single}, nil},
		"headless without is open to both":   {one, fs{ips: []string{"None"}, selector: true}, nil, fs{ips: []string{"None"}, families: fourSix, policy: require, selector: true}, nil},
		"an alias has no family":             {both, fs{kind: corev1.ServiceTypeExternalName}, nil, fs{kind: corev1.ServiceTypeExternalName}, nil},
		"an update that says nothing":        {both, fs{ips: []string{a4}}, &fs{ips: []string{a4}, families: four, policy: single}, fs{ips: []string{a4}, families: four, policy: single}, nil},
		"two families from now on":           {both, fs{ips: []string{a4}, families: four, policy: require}, &fs{ips: []string{a4}, families: four, policy: single}, fs{ips: []string{a4}, families: fourSix, policy: require}, nil},
		"one family from now on":             {both, fs{ips: []string{a4, a6}, families: fourSix, policy: single}, &fs{ips: []string{a4, a6}, families: fourSix, policy: require}, fs{ips: []string{a4}, families: four, policy: single}, nil},
		"preferring two changes nothing":     {both, fs{ips: []string{a4}, families: four, policy: prefer}, &fs{ips: []string{a4}, families: four, policy: prefer}, fs{ips: []string{a4}, families: four, policy: prefer}, nil},
		"an alias that becomes a Service":    {both, fs{}, &fs{kind: corev1.ServiceTypeExternalName}, fs{families: four, policy: single}, nil},
		"the second family without a policy": {both, fs{ips: []string{a4, a6}, families: four, policy: require}, &fs{ips: []string{a4, a6}, families: fourSix, policy: require}, fs{}, []string{`spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary IP family`}},
		"another address":                    {both, fs{ips: []string{"10.254.0.8"}, families: four}, &fs{ips: []string{a4}, families: four, policy: single}, fs{}, []string{`spec.clusterIPs[0]: Invalid value: ["10.254.0.8"]: may not change once set`}},
		"another first family": {both, fs{ips: []string{a6}, families: six}, &fs{ips: []string{a4}, families: four, policy: single}, fs{},
			[]string{`spec.clusterIPs[0]: Invalid value: ["fd00:254::9"]: may not change once set`}},
		"no address any more": {both, fs{ips: []string{"None"}, families: four}, &fs{ips: []string{a4}, families: four, policy: single}, fs{}, []string{`spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set`}},
	} {
		t.Run(name, func(t *testing.T) {
			policy := newPolicy(t)
			var err error
			if policy.addresses, err = svcranges.ParseServiceCIDRs(tc.ranges); err != nil {
				t.Fatal(err)
			}
			var old *corev1.ServiceSpec
			if tc.old != nil {
				old = tc.old.spec()
			}
			spec := tc.user.spec()
			var got []string
			for _, e := range policy.settleFamilies(spec, old) {
				got = append(got, e.Error())
			}
			if diff := cmp.Diff(tc.wantErrs, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if len(got) > 0 {
				return
			}
			if diff := cmp.Diff(tc.want.spec(), spec); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckAddressShape(t *testing.T) {
	for name, tc := range map[string]struct {
		one  string
		list []string
		want []string
	}{
		"none":         {"", nil, nil},
		"one":          {"10.254.0.5", []string{"10.254.0.5"}, nil},
		"headless":     {"None", []string{"None"}, nil},
		"only a list":  {"", []string{"10.254.0.5"}, []string{"spec.clusterIPs: Invalid value: [\"10.254.0.5\"]: must be empty when `clusterIP` is not specified"}},
		"two versions": {"10.254.0.6", []string{"10.254.0.5"}, []string{"spec.clusterIPs: Invalid value: [\"10.254.0.5\"]: first value must match `clusterIP`"}},
		"two families": {"10.254.0.6", []string{"10.254.0.6", "fd00::1"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, e := range checkAddressShape(&corev1.ServiceSpec{ClusterIP: tc.one, ClusterIPs: tc.list}) {
				got = append(got, e.Error())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadBalancersKeepWhatOthersReliedOn(t *testing.T) {
	balancer := func(class string, port int32) *corev1.ServiceSpec {
		return &corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
			LoadBalancerClass: new(class), HealthCheckNodePort: port,
		}
	}
	if errs := checkLoadBalancerKept(balancer("a/b", 31000), balancer("a/b", 31000)); len(errs) > 0 {
		t.Errorf("an update that changes nothing is refused: %v", errs)
	}
	got := checkLoadBalancerKept(balancer("a/c", 31001), balancer("a/b", 31000)).ToAggregate().Error()
	want := `[spec.loadBalancerClass: Invalid value: "a/c": may not change once set, spec.healthCheckNodePort: Forbidden: field is immutable]`
	if got != want {
		t.Errorf("errors %s, want %s", got, want)
	}
	given := balancer("a/b", 31000)
	given.ExternalTrafficPolicy, given.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyCluster, 0
	if errs := checkLoadBalancerKept(given, balancer("a/b", 31000)); len(errs) > 0 {
		t.Errorf("giving up health checks is refused: %v", errs)
	}
}
