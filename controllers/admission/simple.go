package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/apis/support"
)

// reviewReplicationController takes upstream's defaults as they are; its labels and
// selector default to the template's labels.
func reviewReplicationController(_ context.Context, c change) (outcome, error) {
	_, rc, old, err := decodeAll[keelsonv1.ReplicationController](c)
	if err != nil {
		return outcome{}, err
	}
	errs := support.CheckRC(&rc.Spec, specPath)
	if old != nil {
		errs = ratchet(errs, support.CheckRC(&old.Spec, specPath))
	}
	return outcome{set: map[string]any{"spec": rc.Spec, "metadata": setMetadata(rc.Labels, nil, nil)}, errors: errs}, nil
}

// reviewEndpoints also writes the column: no controller looks after Endpoints that
// a person wrote.
func reviewEndpoints(_ context.Context, c change) (outcome, error) {
	_, endpoints, old, err := decodeAll[keelsonv1.Endpoints](c)
	if err != nil {
		return outcome{}, err
	}
	path := field.NewPath("subsets")
	errs := support.CheckEndpoints(endpoints.Subsets, path)
	if old != nil {
		errs = ratchet(errs, support.CheckEndpoints(old.Subsets, path))
	}
	set := map[string]any{"status": keelsonv1.EndpointsStatus{Summary: summary.Endpoints(endpoints.Subsets)}}
	if endpoints.Subsets != nil {
		set["subsets"] = endpoints.Subsets
	}
	return outcome{set: set, errors: errs}, nil
}

// reviewNode keeps the user's taints: upstream's TaintNodesByCondition plugin adds
// one to every new Node that only upstream's node lifecycle controller takes away.
func reviewNode(_ context.Context, c change) (outcome, error) {
	user, node, old, err := decodeAll[keelsonv1.Node](c)
	if err != nil {
		return outcome{}, err
	}
	node.Spec.Taints = user.Spec.Taints
	errs := support.CheckNode(&node.Spec, specPath)
	if old != nil {
		errs = ratchet(errs, support.CheckNode(&old.Spec, specPath))
		errs = append(errs, checkNodeUpdate(&node.Spec, &old.Spec)...)
	}
	return outcome{set: map[string]any{"spec": node.Spec}, errors: errs}, nil
}

// checkNodeUpdate fixes what a Node has been given once.
func checkNodeUpdate(spec, old *corev1.NodeSpec) field.ErrorList {
	var errs field.ErrorList
	if len(old.PodCIDRs) > 0 {
		if !slices.Equal(spec.PodCIDRs, old.PodCIDRs) {
			errs = append(errs, field.Forbidden(specPath.Child("podCIDRs"), `node updates may not change podCIDR except from "" to valid`))
		}
	}
	if old.ProviderID != "" && spec.ProviderID != old.ProviderID {
		errs = append(errs, field.Forbidden(specPath.Child("providerID"), "may not change once set"))
	}
	return errs
}

// reviewEndpointSlice also writes the columns: no controller looks after slices that a
// person wrote. What upstream would drop is looked for in the user's object.
func reviewEndpointSlice(_ context.Context, c change) (outcome, error) {
	user, slice, old, err := decodeAll[discoveryv1.EndpointSlice](c)
	if err != nil {
		return outcome{}, err
	}
	errs := support.CheckEndpointSlice(sliceFields(user))
	if old != nil {
		errs = ratchet(errs, support.CheckEndpointSlice(sliceFields(old)))
		errs = append(errs, fixed(slice.AddressType == old.AddressType, field.NewPath("addressType"), slice.AddressType)...)
	}
	set := map[string]any{
		"addressType": slice.AddressType,
		"endpoints":   append([]upstreamdiscoveryv1.Endpoint{}, slice.Endpoints...),
		"status":      discoveryv1.EndpointSliceStatus{Summary: summary.EndpointSlice(slice.Ports, slice.Endpoints)},
	}
	if slice.Ports != nil {
		set["ports"] = slice.Ports
	}
	return outcome{set: set, errors: errs}, nil
}

func sliceFields(slice *discoveryv1.EndpointSlice) *support.EndpointSliceFields {
	return &support.EndpointSliceFields{AddressType: slice.AddressType, Endpoints: slice.Endpoints, Ports: slice.Ports}
}
