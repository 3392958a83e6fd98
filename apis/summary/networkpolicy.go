package summary

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	networkingv1 "github.com/keelson-dev/keelson/apis/networking/v1"
)

// NetworkPolicy returns the POD-SELECTOR column of a policy for the Pods of selector.
func NetworkPolicy(selector *metav1.LabelSelector) networkingv1.NetworkPolicySummary {
	return networkingv1.NetworkPolicySummary{PodSelector: metav1.FormatLabelSelector(selector)}
}
