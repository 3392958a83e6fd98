package v1

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Upstream returns p as the built-in kind. Maps, slices and pointers are shared with p:
// copy before you change them.
func (p *NetworkPolicy) Upstream() *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy"},
		ObjectMeta: p.ObjectMeta,
		Spec:       p.Spec,
	}
}
