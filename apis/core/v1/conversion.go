package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Upstream returns p as the built-in kind. Maps, slices and pointers are shared
// with p: copy before you change them.
func (p *Pod) Upstream() *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   upstreamTypeMeta("Pod"),
		ObjectMeta: p.ObjectMeta,
		Spec:       p.Spec,
		Status:     p.Status.PodStatus,
	}
}

// Upstream returns n as the built-in kind. Maps, slices and pointers are shared
// with n.
func (n *Node) Upstream() *corev1.Node {
	return &corev1.Node{
		TypeMeta:   upstreamTypeMeta("Node"),
		ObjectMeta: n.ObjectMeta,
		Spec:       n.Spec,
		Status:     n.Status.NodeStatus,
	}
}

// Upstream returns rc as the built-in kind. Maps, slices and pointers are shared
// with rc.
func (rc *ReplicationController) Upstream() *corev1.ReplicationController {
	return &corev1.ReplicationController{
		TypeMeta:   upstreamTypeMeta("ReplicationController"),
		ObjectMeta: rc.ObjectMeta,
		Spec:       rc.Spec,
		Status:     rc.Status.ReplicationControllerStatus,
	}
}

// Upstream returns s as the built-in kind. Maps, slices and pointers are shared
// with s.
func (s *Service) Upstream() *corev1.Service {
	return &corev1.Service{
		TypeMeta:   upstreamTypeMeta("Service"),
		ObjectMeta: s.ObjectMeta,
		Spec:       s.Spec,
		Status:     s.Status.ServiceStatus,
	}
}

// Upstream returns e as the built-in kind. Maps, slices and pointers are shared
// with e.
func (e *Endpoints) Upstream() *corev1.Endpoints {
	return &corev1.Endpoints{
		TypeMeta:   upstreamTypeMeta("Endpoints"),
		ObjectMeta: e.ObjectMeta,
		Subsets:    e.Subsets,
	}
}

func upstreamTypeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: kind}
}
