package builders

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// ServiceBuilder builds a Service.
type ServiceBuilder struct{ svc keelsonv1.Service }

// MakeService starts a Service of type ClusterIP without ports and selector.
func MakeService(name string) *ServiceBuilder {
	b := &ServiceBuilder{}
	b.svc.Name = name
	b.svc.Namespace = DefaultNamespace
	b.svc.Spec.Type = corev1.ServiceTypeClusterIP
	return b
}

// Obj returns the Service.
func (b *ServiceBuilder) Obj() *keelsonv1.Service { return b.svc.DeepCopy() }

// Namespace sets the namespace.
func (b *ServiceBuilder) Namespace(ns string) *ServiceBuilder { b.svc.Namespace = ns; return b }

// UID sets the UID.
func (b *ServiceBuilder) UID(uid string) *ServiceBuilder { b.svc.UID = types.UID(uid); return b }

// Label sets one label.
func (b *ServiceBuilder) Label(key, value string) *ServiceBuilder {
	setString(&b.svc.Labels, key, value)
	return b
}

// Created sets the creation time.
func (b *ServiceBuilder) Created(at time.Time) *ServiceBuilder {
	b.svc.CreationTimestamp = metav1.NewTime(at)
	return b
}

// Selector adds one pair to the selector.
func (b *ServiceBuilder) Selector(key, value string) *ServiceBuilder {
	setString(&b.svc.Spec.Selector, key, value)
	return b
}

// Type sets spec.type.
func (b *ServiceBuilder) Type(t corev1.ServiceType) *ServiceBuilder { b.svc.Spec.Type = t; return b }

// Port adds a TCP port that targets the number target.
func (b *ServiceBuilder) Port(name string, port, target int32) *ServiceBuilder {
	return b.PortSpec(corev1.ServicePort{
		Name: name, Port: port, TargetPort: intstr.FromInt32(target), Protocol: corev1.ProtocolTCP,
	})
}

// NamedPort adds a TCP port that targets the container port called target.
func (b *ServiceBuilder) NamedPort(name string, port int32, target string) *ServiceBuilder {
	return b.PortSpec(corev1.ServicePort{
		Name: name, Port: port, TargetPort: intstr.FromString(target), Protocol: corev1.ProtocolTCP,
	})
}

// PortSpec adds a port.
func (b *ServiceBuilder) PortSpec(port corev1.ServicePort) *ServiceBuilder {
	b.svc.Spec.Ports = append(b.svc.Spec.Ports, port)
	return b
}

// NodePort sets the node port of the last port.
func (b *ServiceBuilder) NodePort(port int32) *ServiceBuilder {
	b.svc.Spec.Ports[len(b.svc.Spec.Ports)-1].NodePort = port
	return b
}

// ClusterIP sets spec.clusterIP and spec.clusterIPs.
func (b *ServiceBuilder) ClusterIP(ip string) *ServiceBuilder {
	b.svc.Spec.ClusterIP = ip
	b.svc.Spec.ClusterIPs = []string{ip}
	return b
}

// Headless makes the Service headless.
func (b *ServiceBuilder) Headless() *ServiceBuilder { return b.ClusterIP(corev1.ClusterIPNone) }

// PublishNotReady sets spec.publishNotReadyAddresses.
func (b *ServiceBuilder) PublishNotReady() *ServiceBuilder {
	b.svc.Spec.PublishNotReadyAddresses = true
	return b
}
