package service

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

// kubernetesKey names the Service through which Pods reach the API server.
var kubernetesKey = types.NamespacedName{Namespace: corev1.NamespaceDefault, Name: "kubernetes"}

const kubernetesPort = 443

// apiServer is where the API server listens, in canonical order.
type apiServer struct {
	addresses []netip.AddrPort
}

// parseAPIServer reads the values of --kubernetes-service-endpoints.
// They are of the family of Service default/kubernetes, the cluster's first one.
func parseAPIServer(endpoints []string, is4 bool) (apiServer, error) {
	var s apiServer
	for _, text := range endpoints {
		endpoint, err := netip.ParseAddrPort(text)
		if err != nil || endpoint.Port() == 0 {
			return apiServer{}, fmt.Errorf("--kubernetes-service-endpoints: %q is not an address and port such as 192.0.2.1:6443", text)
		}
		if endpoint.Addr().Is4() != is4 {
			return apiServer{}, fmt.Errorf("--kubernetes-service-endpoints: %q is not of the family of the first range of --service-cidr", text)
		}
		s.addresses = append(s.addresses, endpoint)
	}
	slices.SortFunc(s.addresses, netip.AddrPort.Compare)
	s.addresses = slices.Compact(s.addresses)
	return s, nil
}

func (s apiServer) configured() bool { return len(s.addresses) > 0 }

// syncKubernetes keeps the Service default/kubernetes, its Endpoints and its slices.
func (r *Reconciler) syncKubernetes(ctx context.Context) error {
	server, err := r.presentServers(ctx)
	if err != nil {
		return err
	}
	if err := r.syncKubernetesService(ctx, server); err != nil {
		return fmt.Errorf("failed to keep Service %s: %w", kubernetesKey, err)
	}
	if err := r.syncKubernetesEndpoints(ctx, server); err != nil {
		return fmt.Errorf("failed to keep Endpoints %s: %w", kubernetesKey, err)
	}
	return r.syncKubernetesSlices(ctx, server)
}

func (r *Reconciler) syncKubernetesService(ctx context.Context, server apiServer) error {
	current := &keelsonv1.Service{}
	err := r.client.Get(ctx, kubernetesKey, current)
	if apierrors.IsNotFound(err) {
		return r.client.Create(ctx, renderKubernetesService(&keelsonv1.Service{}, r.ranges.addresses[0].KubernetesAddress(), server))
	}
	if err != nil {
		return err
	}
	wanted := renderKubernetesService(current, r.ranges.addresses[0].KubernetesAddress(), server)
	if equality.Semantic.DeepEqual(current.Spec, wanted.Spec) && equality.Semantic.DeepEqual(current.Labels, wanted.Labels) {
		return nil
	}
	klog.FromContext(ctx).V(2).Info("Restoring the Service of the API server")
	return r.client.Patch(ctx, wanted, client.MergeFromWithOptions(current, client.MergeFromWithOptimisticLock{}))
}

func (r *Reconciler) syncKubernetesEndpoints(ctx context.Context, server apiServer) error {
	current := &keelsonv1.Endpoints{}
	err := r.client.Get(ctx, kubernetesKey, current)
	if apierrors.IsNotFound(err) {
		return r.client.Create(ctx, renderKubernetesEndpoints(&keelsonv1.Endpoints{}, server))
	}
	if err != nil {
		return err
	}
	wanted := renderKubernetesEndpoints(current, server)
	if equality.Semantic.DeepEqual(current.Subsets, wanted.Subsets) && equality.Semantic.DeepEqual(current.Labels, wanted.Labels) &&
		current.Status == wanted.Status {
		return nil
	}
	klog.FromContext(ctx).V(2).Info("Restoring the Endpoints of the API server")
	return r.client.Patch(ctx, wanted, client.MergeFromWithOptions(current, client.MergeFromWithOptimisticLock{}))
}

// renderKubernetesService writes every field that decides where traffic goes, and
// keeps what else current has.
func renderKubernetesService(current *keelsonv1.Service, address netip.Addr, server apiServer) *keelsonv1.Service {
	service := current.DeepCopy()
	service.Name, service.Namespace = kubernetesKey.Name, kubernetesKey.Namespace
	if service.Labels == nil {
		service.Labels = map[string]string{}
	}
	service.Labels["component"], service.Labels["provider"] = "apiserver", "kubernetes"
	family := corev1.IPv4Protocol
	if address.Is6() {
		family = corev1.IPv6Protocol
	}
	service.Spec = corev1.ServiceSpec{
		Type:                  corev1.ServiceTypeClusterIP,
		ClusterIP:             address.String(),
		ClusterIPs:            []string{address.String()},
		IPFamilies:            []corev1.IPFamily{family},
		IPFamilyPolicy:        new(corev1.IPFamilyPolicySingleStack),
		SessionAffinity:       corev1.ServiceAffinityNone,
		InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyCluster),
		Ports: []corev1.ServicePort{{
			Name: "https", Protocol: corev1.ProtocolTCP, Port: kubernetesPort,
			TargetPort: intstr.FromInt32(int32(server.addresses[0].Port())),
		}},
	}
	return service
}

// renderKubernetesEndpoints writes them into current. The Service has no selector, so
// nobody else writes this object, and the label keeps its slices from being made twice.
func renderKubernetesEndpoints(current *keelsonv1.Endpoints, server apiServer) *keelsonv1.Endpoints {
	endpoints := current.DeepCopy()
	endpoints.Name, endpoints.Namespace = kubernetesKey.Name, kubernetesKey.Namespace
	if endpoints.Labels == nil {
		endpoints.Labels = map[string]string{}
	}
	endpoints.Labels[upstreamdiscoveryv1.LabelSkipMirror] = "true"
	endpoints.Subsets = kubernetesSubsets(server)
	endpoints.Status.Summary = summary.Endpoints(endpoints.Subsets)
	return endpoints
}

// kubernetesSubsets groups the addresses by port.
func kubernetesSubsets(server apiServer) []corev1.EndpointSubset {
	byPort := map[uint16]int{}
	var subsets []corev1.EndpointSubset
	for _, a := range server.addresses {
		at, ok := byPort[a.Port()]
		if !ok {
			at = len(subsets)
			byPort[a.Port()] = at
			subsets = append(subsets, corev1.EndpointSubset{
				Ports: []corev1.EndpointPort{{Name: "https", Port: int32(a.Port()), Protocol: corev1.ProtocolTCP}},
			})
		}
		subsets[at].Addresses = append(subsets[at].Addresses, corev1.EndpointAddress{IP: a.Addr().String()})
	}
	return subsets
}
