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
	addresses svcranges.AddressRange
	nodePorts svcranges.PortRange
}

// prepareService sets aside addresses, node ports and families that the host's own
// ranges would judge. What is no address or no port stays: upstream's message says so.
func prepareService(probe tree, old []byte) error {
	spec := probe.child("spec")
	if spec == nil {
		return nil
	}
	takeClusterIPs(spec)
	if families, _ := spec["ipFamilies"].([]any); len(families) == 1 && families[0] == string(corev1.IPv4Protocol) {
		delete(spec, "ipFamilies")
	}
	if spec.text("ipFamilyPolicy") == string(corev1.IPFamilyPolicySingleStack) {
		delete(spec, "ipFamilyPolicy")
	}
	if hasNodePorts(corev1.ServiceType(spec.text("type"))) {
		takeNodePorts(spec, func(_ int, port int64) bool { return port > 0 && port <= 65535 })
		return nil
	}
	if old == nil {
		return nil
	}
	stored := &keelsonv1.Service{}
	if err := decode(old, stored); err != nil {
		return fmt.Errorf("decode the stored object: %w", err)
	}
	leaveNodePortType(spec, &stored.Spec)
	return nil
}

func takeClusterIPs(spec tree) {
	list, isList := spec["clusterIPs"].([]any)
	if _, present := spec["clusterIPs"]; present && (!isList || len(list) > 1) {
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

func takeNodePorts(spec tree, take func(index int, port int64) bool) {
	for i, port := range spec.children("ports") {
		number, ok := port["nodePort"].(json.Number)
		if !ok {
			continue
		}
		if n, err := number.Int64(); err == nil && take(i, n) {
			delete(port, "nodePort")
		}
	}
}

// leaveNodePortType takes out what only a type with node ports may have, as far as
// it still is what the stored Service was given: a change of spec.type alone must
// work.
func leaveNodePortType(spec tree, stored *corev1.ServiceSpec) {
	if !hasNodePorts(stored.Type) {
		return
	}
	takeNodePorts(spec, func(_ int, port int64) bool {
		return slices.ContainsFunc(stored.Ports, func(p corev1.ServicePort) bool { return int64(p.NodePort) == port })
	})
	if spec.text("externalTrafficPolicy") == string(stored.ExternalTrafficPolicy) {
		delete(spec, "externalTrafficPolicy")
	}
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
	restoreFamilies(spec, &user.Spec)

	errs := support.CheckService(checkedSpec(spec, &user.Spec), specPath)
	request := ownRequest(spec, nil)
	if old != nil {
		errs = ratchet(errs, support.CheckService(&old.Spec, specPath))
		errs = append(errs, checkClusterIPKept(spec, &old.Spec)...)
		request = ownRequest(spec, &old.Spec)
	}
	errs = append(errs, checkClusterIPShape(spec)...)
	errs = append(errs, checkNodePortsDistinct(spec)...)
	if !request.empty() {
		taken, err := p.allocated(ctx, service)
		if err != nil {
			return outcome{}, err
		}
		errs = append(errs, p.checkRequest(service, request, taken)...)
	}
	return outcome{set: map[string]any{"spec": *spec}, errors: errs}, nil
}

// checkedSpec is the spec to look for refused fields in. A type that is refused
// brings defaults of its own: there only what the user wrote counts.
func checkedSpec(spec, user *corev1.ServiceSpec) *corev1.ServiceSpec {
	if spec.Type == corev1.ServiceTypeClusterIP || spec.Type == corev1.ServiceTypeNodePort {
		return spec
	}
	return user
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
		spec.ClusterIPs[0] = spec.ClusterIP
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

// restoreFamilies makes IPv4 the default whatever the host's ranges are.
func restoreFamilies(spec, user *corev1.ServiceSpec) {
	if spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	single, ipv4 := corev1.IPFamilyPolicySingleStack, []corev1.IPFamily{corev1.IPv4Protocol}
	spec.IPFamilyPolicy, spec.IPFamilies = user.IPFamilyPolicy, user.IPFamilies
	if spec.IPFamilyPolicy == nil {
		spec.IPFamilyPolicy = &single
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = ipv4
	}
}

func protocolOf(p corev1.ServicePort) corev1.Protocol {
	if p.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return p.Protocol
}
