package admission

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What a Service says about families is judged by Keelson's ranges, and so is set aside in
// the dry run. The rules and the sentences are those of upstream's allocator and of its
// validation (pkg/registry/core/service/storage, ValidateServiceClusterIPsRelatedFields).

var (
	clusterIPsPath   = specPath.Child("clusterIPs")
	familiesPath     = specPath.Child("ipFamilies")
	familyPolicyPath = specPath.Child("ipFamilyPolicy")
)

// areFamilies says whether families make sense by themselves.
func areFamilies(families []corev1.IPFamily) bool {
	seen := map[corev1.IPFamily]bool{}
	for _, f := range families {
		if f != corev1.IPv4Protocol && f != corev1.IPv6Protocol || seen[f] {
			return false
		}
		seen[f] = true
	}
	return true
}

func isFamilyPolicy(policy corev1.IPFamilyPolicy) bool {
	switch policy {
	case corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack:
		return true
	}
	return false
}

func familyOf(addr netip.Addr) corev1.IPFamily {
	if addr.Unmap().Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// settleFamilies gives spec the families that it has with this cluster's ranges, and says
// what does not fit. old is nil on create.
func (p servicePolicy) settleFamilies(spec, old *corev1.ServiceSpec) field.ErrorList {
	if spec.Type == corev1.ServiceTypeExternalName || !areFamilies(spec.IPFamilies) ||
		spec.IPFamilyPolicy != nil && !isFamilyPolicy(*spec.IPFamilyPolicy) {
		return nil // upstream has the answer
	}
	if old != nil && old.Type == corev1.ServiceTypeExternalName {
		old = nil // whatever it had, it is free now
	}
	errs := append(checkAddressShape(spec), checkAddressesKept(spec, old)...)
	if len(errs) > 0 || prefersAsBefore(spec, old) {
		return errs
	}
	if spec.IPFamilyPolicy == nil {
		spec.IPFamilyPolicy = new(defaultFamilyPolicy(spec, old))
	}
	if errs := release(spec, old); len(errs) > 0 {
		return errs
	}
	if errs := p.inferFamilies(spec); len(errs) > 0 {
		return errs
	}
	if errs := p.completeFamilies(spec); len(errs) > 0 {
		return errs
	}
	return checkFamiliesKept(spec, old)
}

// prefersAsBefore says that the Service keeps what it has though the cluster's ranges
// may have changed: two families are never given or taken without being asked for.
func prefersAsBefore(spec, old *corev1.ServiceSpec) bool {
	prefers := func(s *corev1.ServiceSpec) bool {
		return s.IPFamilyPolicy != nil && *s.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack
	}
	return old != nil && spec.Type == old.Type && prefers(spec) && prefers(old) &&
		slices.Equal(spec.ClusterIPs, old.ClusterIPs) && slices.Equal(spec.IPFamilies, old.IPFamilies)
}

func defaultFamilyPolicy(spec, old *corev1.ServiceSpec) corev1.IPFamilyPolicy {
	switch {
	case old != nil && old.IPFamilyPolicy != nil:
		return *old.IPFamilyPolicy
	case isOpenHeadless(spec):
		return corev1.IPFamilyPolicyRequireDualStack
	default:
		return corev1.IPFamilyPolicySingleStack
	}
}

// isOpenHeadless: without an address and without a selector, a Service may have endpoints
// of any family, whatever the cluster's are.
func isOpenHeadless(spec *corev1.ServiceSpec) bool {
	return spec.ClusterIP == corev1.ClusterIPNone && len(spec.Selector) == 0
}

// checkAddressShape holds clusterIP, clusterIPs and families against each other.
func checkAddressShape(spec *corev1.ServiceSpec) field.ErrorList {
	if slices.ContainsFunc(spec.ClusterIPs, func(ip string) bool { return ip != corev1.ClusterIPNone && !isIPAddress(ip) }) {
		return nil // upstream says which is none
	}
	var errs field.ErrorList
	switch {
	case spec.ClusterIP == "" && len(spec.ClusterIPs) > 0:
		errs = append(errs, field.Invalid(clusterIPsPath, spec.ClusterIPs, "must be empty when `clusterIP` is not specified"))
	case len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] != spec.ClusterIP:
		errs = append(errs, field.Invalid(clusterIPsPath, spec.ClusterIPs, "first value must match `clusterIP`"))
	}
	if slices.Contains(spec.ClusterIPs, corev1.ClusterIPNone) {
		return errs
	}
	families := map[corev1.IPFamily]bool{}
	for i, ip := range spec.ClusterIPs {
		family := familyOf(netip.MustParseAddr(ip))
		if i < len(spec.IPFamilies) && spec.IPFamilies[i] != family {
			errs = append(errs, field.Invalid(clusterIPsPath.Index(i), ip,
				fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%d]`", spec.IPFamilies[i], i)))
		}
		families[family] = true
	}
	if len(spec.ClusterIPs) == 2 && len(families) == 1 {
		errs = append(errs, field.Invalid(clusterIPsPath, spec.ClusterIPs, "may specify no more than one IP for each IP family"))
	}
	return errs
}

// release gives up the second family where the policy says so, and only there.
func release(spec, old *corev1.ServiceSpec) field.ErrorList {
	single := *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
	var errs field.ErrorList
	if old != nil && single {
		if len(spec.ClusterIPs) > 1 && slices.Equal(spec.ClusterIPs, old.ClusterIPs) {
			spec.ClusterIPs = spec.ClusterIPs[:1]
		}
		if len(spec.IPFamilies) > 1 && slices.Equal(spec.IPFamilies, old.IPFamilies) {
			spec.IPFamilies = spec.IPFamilies[:1]
		}
	}
	refuse := func(text string) {
		errs = append(errs, field.Invalid(familyPolicyPath, spec.IPFamilyPolicy, text))
	}
	if single {
		return append(errs, checkSingle(spec)...)
	}
	if old != nil {
		if n := len(spec.ClusterIPs); n > 0 && n < len(old.ClusterIPs) {
			refuse("must be 'SingleStack' to release the secondary cluster IP")
		}
		if n := len(spec.IPFamilies); n > 0 && n < len(old.IPFamilies) {
			refuse("must be 'SingleStack' to release the secondary IP family")
		}
	}
	return errs
}

// checkSingle holds a Service of one family to one of each.
func checkSingle(spec *corev1.ServiceSpec) field.ErrorList {
	var errs field.ErrorList
	const text = "must be 'RequireDualStack' or 'PreferDualStack' when multiple %s are specified"
	if len(spec.ClusterIPs) == 2 {
		errs = append(errs, field.Invalid(familyPolicyPath, spec.IPFamilyPolicy, fmt.Sprintf(text, "cluster IPs")))
	}
	if len(spec.IPFamilies) == 2 {
		errs = append(errs, field.Invalid(familyPolicyPath, spec.IPFamilyPolicy, fmt.Sprintf(text, "IP families")))
	}
	return errs
}

// inferFamilies adds the families of the addresses that the user asks for.
func (p servicePolicy) inferFamilies(spec *corev1.ServiceSpec) field.ErrorList {
	var errs field.ErrorList
	for i := len(spec.IPFamilies); i < len(spec.ClusterIPs); i++ {
		addr, err := netip.ParseAddr(spec.ClusterIPs[i])
		if err != nil {
			break // None, or what upstream refuses
		}
		if family := familyOf(addr); p.hasFamily(family) {
			spec.IPFamilies = append(spec.IPFamilies, family)
		} else {
			errs = append(errs, field.Invalid(clusterIPsPath.Index(i), spec.ClusterIPs, fmt.Sprintf("%s is not configured on this cluster", family)))
		}
	}
	return errs
}

// completeFamilies adds what the policy asks for beside what the user named.
func (p servicePolicy) completeFamilies(spec *corev1.ServiceSpec) field.ErrorList {
	open := isOpenHeadless(spec)
	var errs field.ErrorList
	if !open {
		if *spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack && len(p.addresses) < 2 {
			errs = append(errs, field.Invalid(familyPolicyPath, spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
		}
		for i, family := range spec.IPFamilies {
			if !p.hasFamily(family) {
				errs = append(errs, field.Invalid(familiesPath.Index(i), family, "not configured on this cluster"))
			}
		}
		if len(errs) > 0 {
			return errs
		}
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{p.defaultFamily()}
	}
	if *spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack && len(spec.IPFamilies) == 1 && (open || len(p.addresses) == 2) {
		spec.IPFamilies = append(spec.IPFamilies, otherFamily(spec.IPFamilies[0]))
	}
	return nil
}

func otherFamily(family corev1.IPFamily) corev1.IPFamily {
	if family == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

func (p servicePolicy) hasFamily(family corev1.IPFamily) bool {
	return p.addresses.Family(family == corev1.IPv4Protocol).IsValid()
}

// defaultFamily is that of the first range; IPv4 where none is configured.
func (p servicePolicy) defaultFamily() corev1.IPFamily {
	if len(p.addresses) == 0 || p.addresses[0].Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// checkAddressesKept holds a Service to the addresses it has, or to having none; the
// second one it may give up.
func checkAddressesKept(spec, old *corev1.ServiceSpec) field.ErrorList {
	if old == nil || old.Type == corev1.ServiceTypeExternalName || len(old.ClusterIPs) == 0 {
		return nil
	}
	if len(spec.ClusterIPs) == 0 {
		return field.ErrorList{field.Invalid(clusterIPsPath.Index(0), spec.ClusterIPs, "primary clusterIP can not be unset")}
	}
	var errs field.ErrorList
	for i := range min(len(spec.ClusterIPs), len(old.ClusterIPs)) {
		if spec.ClusterIPs[i] != old.ClusterIPs[i] {
			errs = append(errs, field.Invalid(clusterIPsPath.Index(i), spec.ClusterIPs, "may not change once set"))
		}
	}
	return errs
}

// checkFamiliesKept does the same for families; those of a headless Service may change.
func checkFamiliesKept(spec, old *corev1.ServiceSpec) field.ErrorList {
	if old == nil || spec.ClusterIP == corev1.ClusterIPNone || old.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	for i := range min(len(spec.IPFamilies), len(old.IPFamilies)) {
		if spec.IPFamilies[i] != old.IPFamilies[i] {
			return field.ErrorList{field.Invalid(familiesPath.Index(0), spec.IPFamilies, "may not change once set")}
		}
	}
	return nil
}

// checkLoadBalancerKept holds a load balancer to its class, and one that asks nodes for
// their health to the port at which it does.
func checkLoadBalancerKept(spec, old *corev1.ServiceSpec) field.ErrorList {
	var errs field.ErrorList
	class := func(s *corev1.ServiceSpec) string {
		if s.LoadBalancerClass == nil {
			return ""
		}
		return *s.LoadBalancerClass
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer && old.Type == corev1.ServiceTypeLoadBalancer && class(spec) != class(old) {
		errs = append(errs, field.Invalid(specPath.Child("loadBalancerClass"), spec.LoadBalancerClass, "may not change once set"))
	}
	asks := needsHealthPort(spec.Type, string(spec.ExternalTrafficPolicy)) && needsHealthPort(old.Type, string(old.ExternalTrafficPolicy))
	if asks && old.HealthCheckNodePort != 0 && spec.HealthCheckNodePort != old.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(specPath.Child("healthCheckNodePort"), immutable))
	}
	return errs
}
