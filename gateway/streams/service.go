package streams

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	translator "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// serviceLocation chooses a ready endpoint of "name", "name:port" or
// "scheme:name:port", where port is a number or a name.
func (h *handler) serviceLocation(ctx context.Context, namespace, id string) (*url.URL, error) {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", id))
	}
	if number, err := strconv.ParseInt(port, 10, 64); err == nil {
		service := &keelsonv1.Service{}
		if err := h.read(ctx, "services", namespace, name, service); err != nil {
			return nil, err
		}
		if port, err = portName(service, number); err != nil {
			return nil, err
		}
	}
	endpoints := &keelsonv1.Endpoints{}
	err := h.read(ctx, "endpoints", namespace, name, endpoints)
	if apierrors.IsNotFound(err) {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	if err != nil {
		return nil, err
	}
	host, err := translator.RandomEndpoint(name, slicesOf(endpoints), port, corev1.IPv4Protocol, func(endpoint *discoveryv1.Endpoint) bool {
		if err := h.isPod(ctx, namespace, endpoint); err != nil {
			klog.FromContext(ctx).V(2).Info("Skipped an endpoint as the target of a proxy request", "service", klog.KRef(namespace, name), "address", endpoint.Addresses[0], "reason", err)
			return false
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	return &url.URL{Scheme: scheme, Host: host}, nil
}

// portName is the name of the Service's port of this number.
func portName(service *keelsonv1.Service, number int64) (string, error) {
	for _, port := range service.Spec.Ports {
		if int64(port.Port) == number {
			return port.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, service.Name))
}

// slicesOf are the ready addresses of endpoints in the form that upstream chooses from.
func slicesOf(endpoints *keelsonv1.Endpoints) []*discoveryv1.EndpointSlice {
	var all []*discoveryv1.EndpointSlice
	for i := range endpoints.Subsets {
		subset := &endpoints.Subsets[i]
		families := map[discoveryv1.AddressType]*discoveryv1.EndpointSlice{}
		for _, address := range subset.Addresses {
			family := discoveryv1.AddressTypeIPv4
			if strings.Contains(address.IP, ":") {
				family = discoveryv1.AddressTypeIPv6
			}
			slice, ok := families[family]
			if !ok {
				slice = &discoveryv1.EndpointSlice{AddressType: family, Ports: portsOf(subset)}
				families[family] = slice
				all = append(all, slice)
			}
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses:  []string{address.IP},
				Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
				TargetRef:  address.TargetRef,
			})
		}
	}
	return all
}

func portsOf(subset *corev1.EndpointSubset) []discoveryv1.EndpointPort {
	ports := make([]discoveryv1.EndpointPort, 0, len(subset.Ports))
	for _, port := range subset.Ports {
		ports = append(ports, discoveryv1.EndpointPort{Name: &port.Name, Port: &port.Port, Protocol: &port.Protocol})
	}
	return ports
}

// isPod returns why an endpoint is not the address of the Pod that it names. Whoever may
// write Endpoints could else send the gateway anywhere.
func (h *handler) isPod(ctx context.Context, namespace string, endpoint *discoveryv1.Endpoint) error {
	target, address := endpoint.TargetRef, endpoint.Addresses[0]
	switch {
	case target == nil:
		return errors.New("the endpoint has no targetRef")
	case target.Namespace != namespace:
		return fmt.Errorf("the targetRef is in namespace %q", target.Namespace)
	}
	pod, err := h.pod(ctx, namespace, target.Name)
	if err != nil {
		return err
	}
	for _, ip := range pod.Status.PodIPs {
		if ip.IP == address {
			return proxyable(address)
		}
	}
	return fmt.Errorf("pod %s has the addresses %v", target.Name, pod.Status.PodIPs)
}
