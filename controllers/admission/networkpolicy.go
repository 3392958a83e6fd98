package admission

import (
	"context"

	networkingv1 "github.com/keelson-dev/keelson/apis/networking/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/apis/support"
)

// reviewNetworkPolicy also writes the column: no controller looks after the kind.
func reviewNetworkPolicy(_ context.Context, c change) (outcome, error) {
	_, policy, old, err := decodeAll[networkingv1.NetworkPolicy](c)
	if err != nil {
		return outcome{}, err
	}
	errs := support.CheckNetworkPolicy(&policy.Spec, specPath)
	if old != nil {
		errs = ratchet(errs, support.CheckNetworkPolicy(&old.Spec, specPath))
	}
	return outcome{set: map[string]any{
		"spec":   policy.Spec,
		"status": networkingv1.NetworkPolicyStatus{Summary: summary.NetworkPolicy(&policy.Spec.PodSelector)},
	}, errors: errs}, nil
}
