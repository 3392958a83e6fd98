package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/support"
	"github.com/keelson-dev/keelson/controllers/internal/svcranges"
)

// servicePolicy judges what a Service asks of Keelson's own ranges.
type servicePolicy struct {
	// services lists all Services.
	services  client.Reader
	addresses svcranges.AddressRanges
	nodePorts svcranges.PortRange
}

// prepareService sets aside addresses, node ports and families that the host's own
// ranges would judge. What is no address, no port or no family stays: upstream's message
// says so.
func prepareService(probe tree, old []byte) error {
	spec := probe.child("spec")
	if spec == nil {
		return nil
	}
	if old != nil {
		stored := &keelsonv1.Service{}
		if err := decode(old, stored); err != nil {
			return fmt.Errorf("decode the stored object: %w", err)
		}
		leaveType(spec, &stored.Spec)
	}
	newType := corev1.ServiceType(spec.text("type"))
	if newType == corev1.ServiceTypeExternalName {
		return nil // which has none of these: upstream says so
	}
	takeClusterIPs(spec)
	takeFamilies(spec)
	if hasNodePorts(newType) {
		takeNodePorts(spec, func(_ int, port int64) bool { return port > 0 && port <= 65535 })
	}
	if needsHealthPort(newType, spec.text("externalTrafficPolicy")) {
		if port, ok := wholeNumber(spec["healthCheckNodePort"]); ok && port >= 0 && port <= 65535 {
			delete(spec, "healthCheckNodePort")
		}
	}
	return nil
}

func takeClusterIPs(spec tree) {
	list, isList := spec["clusterIPs"].([]any)
	if _, present := spec["clusterIPs"]; present && (!isList || len(list) > 2) {
		return
	}
	for _, value := range append(slices.Clone(list), spec["clusterIP"]) {
		if !isAddress(value) {
			return
		}
	}
	delete(spec, "clusterIP")
	delete(spec, "clusterIPs")
}

// isAddress says whether value is an IP address in JSON, or is not set.
func isAddress(value any) bool {
	if value == nil || value == "" {
		return true
	}
	text, _ := value.(string)
	_, err := netip.ParseAddr(text)
	return err == nil
}

// takeFamilies takes families and their policy where they make sense by themselves.
func takeFamilies(spec tree) {
	list, isList := spec["ipFamilies"].([]any)
	families := make([]corev1.IPFamily, 0, len(list))
	for _, value := range list {
		text, _ := value.(string)
		families = append(families, corev1.IPFamily(text))
	}
	if _, present := spec["ipFamilies"]; present && (!isList || !areFamilies(families)) {
		return
	}
	policy, isText := spec["ipFamilyPolicy"].(string)
	if _, present := spec["ipFamilyPolicy"]; present && (!isText || !isFamilyPolicy(corev1.IPFamilyPolicy(policy))) {
		return
	}
	delete(spec, "ipFamilies")
	delete(spec, "ipFamilyPolicy")
}

func takeNodePorts(spec tree, take func(index int, port int64) bool) {
	for i, port := range spec.children("ports") {
		if n, ok := wholeNumber(port["nodePort"]); ok && take(i, n) {
			delete(port, "nodePort")
		}
	}
}

func wholeNumber(value any) (int64, bool) {
	number, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	n, err := number.Int64()
	return n, err == nil
}

// leaveType takes out what only the stored Service's type may have, as far as it still is
// what that Service was given: a change of spec.type alone must work. The rules are
// upstream's (dropTypeDependentFields of pkg/registry/core/service).
func leaveType(spec tree, stored *corev1.ServiceSpec) {
	newType, policy := corev1.ServiceType(spec.text("type")), spec.text("externalTrafficPolicy")
	if stored.Type != corev1.ServiceTypeExternalName && newType == corev1.ServiceTypeExternalName {
		leaveAddresses(spec, stored)
	}
	if hasNodePorts(stored.Type) && !hasNodePorts(newType) {
		takeNodePorts(spec, func(_ int, port int64) bool {
			return slices.ContainsFunc(stored.Ports, func(p corev1.ServicePort) bool { return int64(p.NodePort) == port })
		})
	}
	if needsHealthPort(stored.Type, string(stored.ExternalTrafficPolicy)) && !needsHealthPort(newType, policy) {
		if port, ok := wholeNumber(spec["healthCheckNodePort"]); ok && port == int64(stored.HealthCheckNodePort) {
			delete(spec, "healthCheckNodePort")
		}
	}
	if stored.Type == corev1.ServiceTypeLoadBalancer && newType != corev1.ServiceTypeLoadBalancer {
		leaveLoadBalancer(spec, stored)
	}
	externalIPs, _ := spec["externalIPs"].([]any)
	wasExternal, isExternal := hasNodePorts(stored.Type) || len(stored.ExternalIPs) > 0, hasNodePorts(newType) || len(externalIPs) > 0
	if wasExternal && !isExternal && policy == string(stored.ExternalTrafficPolicy) {
		delete(spec, "externalTrafficPolicy")
	}
}

// leaveLoadBalancer is leaveType for what only a load balancer has.
func leaveLoadBalancer(spec tree, stored *corev1.ServiceSpec) {
	if allocate, ok := spec["allocateLoadBalancerNodePorts"].(bool); ok && stored.AllocateLoadBalancerNodePorts != nil && allocate == *stored.AllocateLoadBalancerNodePorts {
		delete(spec, "allocateLoadBalancerNodePorts")
	}
	if class := spec.text("loadBalancerClass"); stored.LoadBalancerClass != nil && class == *stored.LoadBalancerClass {
		delete(spec, "loadBalancerClass")
	}
}

// leaveAddresses is leaveType for what a Service without an address does not have.
func leaveAddresses(spec tree, stored *corev1.ServiceSpec) {
	var user corev1.ServiceSpec
	if raw, err := json.Marshal(spec); err != nil || decode(raw, &user) != nil {
		return // upstream says what is wrong with it
	}
	if user.ClusterIP == "" && (len(user.ClusterIPs) == 0 || slices.Equal(user.ClusterIPs, stored.ClusterIPs)) ||
		user.ClusterIP == stored.ClusterIP && (len(user.ClusterIPs) == 0 || slices.Equal(user.ClusterIPs, stored.ClusterIPs)) {
		delete(spec, "clusterIP")
		delete(spec, "clusterIPs")
	}
	if slices.Equal(user.IPFamilies, stored.IPFamilies) {
		delete(spec, "ipFamilies")
	}
	if user.IPFamilyPolicy != nil && stored.IPFamilyPolicy != nil && *user.IPFamilyPolicy == *stored.IPFamilyPolicy {
		delete(spec, "ipFamilyPolicy")
	}
}

// needsHealthPort says whether a load balancer asks each node whether it has endpoints.
func needsHealthPort(t corev1.ServiceType, policy string) bool {
	return t == corev1.ServiceTypeLoadBalancer && policy == string(corev1.ServiceExternalTrafficPolicyLocal)
}

func hasNodePorts(t corev1.ServiceType) bool {
	return t == corev1.ServiceTypeNodePort || t == corev1.ServiceTypeLoadBalancer
}

// review gives the Service back what prepareService set aside, keeps what the
// stored one has been given, and judges what is new by Keelson's ranges.
func (p servicePolicy) review(ctx context.Context, c change) (outcome, error) {
	user, service, old, err := decodeAll[keelsonv1.Service](c)
	if err != nil {
		return outcome{}, err
	}
	service.Namespace, service.Name = c.namespace, c.name
	spec := &service.Spec
	restoreAddresses(spec, &user.Spec, old)
	restoreNodePorts(spec, &user.Spec, old)
	restoreHealthPort(spec, &user.Spec, old)
	restoreFamilies(spec, &user.Spec)

	errs := support.CheckService(spec, specPath)
	var before *corev1.ServiceSpec
	if old != nil {
		before = &old.Spec
		errs = ratchet(errs, support.CheckService(before, specPath))
		errs = append(errs, checkLoadBalancerKept(spec, before)...)
	}
	errs = append(errs, p.settleFamilies(spec, before)...)
	errs = append(errs, checkNodePortsDistinct(spec)...)
	if request := ownRequest(spec, before); !request.empty() {
		taken, err := p.allocated(ctx, service)
		if err != nil {
			return outcome{}, err
		}
		errs = append(errs, p.checkRequest(service, request, taken)...)
	}
	return outcome{set: map[string]any{"spec": *spec}, errors: errs}, nil
}

// restoreAddresses puts the user's cluster address in the place of the one that the
// dry run made up, else that of the stored Service.
func restoreAddresses(spec, user *corev1.ServiceSpec, old *keelsonv1.Service) {
	if spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	spec.ClusterIP, spec.ClusterIPs = user.ClusterIP, slices.Clone(user.ClusterIPs)
	if old != nil && old.Spec.Type != corev1.ServiceTypeExternalName {
		keepInStep(spec, &old.Spec)
		if spec.ClusterIP == "" && len(spec.ClusterIPs) == 0 {
			spec.ClusterIP, spec.ClusterIPs = old.Spec.ClusterIP, slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
}

// keepInStep lets clusterIPs follow clusterIP, and the other way round when it was
// cleared, for clients that know one of the two only.
func keepInStep(spec, old *corev1.ServiceSpec) {
	sameOne, sameList := spec.ClusterIP == old.ClusterIP, slices.Equal(spec.ClusterIPs, old.ClusterIPs)
	switch {
	case !sameOne && sameList && spec.ClusterIP == "":
		spec.ClusterIPs = nil
	case !sameOne && sameList && len(spec.ClusterIPs) > 0:
		spec.ClusterIPs = []string{spec.ClusterIP}
	case sameOne && !sameList && len(spec.ClusterIPs) == 0:
		spec.ClusterIP = ""
	}
}

// restoreNodePorts does the same for node ports; ports are matched by name with
// those of the stored Service.
func restoreNodePorts(spec, user *corev1.ServiceSpec, old *keelsonv1.Service) {
	if !hasNodePorts(spec.Type) || len(spec.Ports) != len(user.Ports) {
		return
	}
	given := map[string]int32{}
	if old != nil && hasNodePorts(old.Spec.Type) {
		for _, p := range old.Spec.Ports {
			given[p.Name] = p.NodePort
		}
	}
	for i := range spec.Ports {
		spec.Ports[i].NodePort = user.Ports[i].NodePort
	}
	for i := range spec.Ports {
		port := &spec.Ports[i]
		used := slices.ContainsFunc(spec.Ports, func(other corev1.ServicePort) bool {
			return other.NodePort == given[port.Name] && protocolOf(other) == protocolOf(*port)
		})
		if port.NodePort == 0 && !used {
			port.NodePort = given[port.Name]
		}
	}
}

// restoreHealthPort does the same for the port of health checks.
func restoreHealthPort(spec, user *corev1.ServiceSpec, old *keelsonv1.Service) {
	if !needsHealthPort(spec.Type, string(spec.ExternalTrafficPolicy)) {
		return
	}
	spec.HealthCheckNodePort = user.HealthCheckNodePort
	if spec.HealthCheckNodePort == 0 && old != nil && needsHealthPort(old.Spec.Type, string(old.Spec.ExternalTrafficPolicy)) {
		spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

// restoreFamilies puts the user's families in the place of those of the host.
func restoreFamilies(spec, user *corev1.ServiceSpec) {
	if spec.Type != corev1.ServiceTypeExternalName {
		spec.IPFamilyPolicy, spec.IPFamilies = user.IPFamilyPolicy, slices.Clone(user.IPFamilies)
	}
}

func protocolOf(p corev1.ServicePort) corev1.Protocol {
	if p.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return p.Protocol
}
