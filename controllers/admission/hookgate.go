package admission

import (
	"context"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// MutatePath and ValidatePath are where the API server asks about webhooks and policies
// that name Keelson's kinds by their plain names (registration.go says when).
const (
	MutatePath   = "/hooks/mutate"
	ValidatePath = "/hooks/validate"
)

// mutatingGate answers for what the handler of people's writes does not see: what the
// system writes, deletions, and subresources.
type mutatingGate struct {
	view *hookView
	// judge completes and judges an object that hooks changed.
	judge func(ctx context.Context, request *admission.Request, object []byte) (verdict, error)
}

var _ admission.Handler = (*mutatingGate)(nil)

// Handle implements admission.Handler.
func (g *mutatingGate) Handle(ctx context.Context, request admission.Request) admission.Response {
	changed, outcome, err := g.view.mutate(ctx, &request.AdmissionRequest, nil)
	switch {
	case err != nil:
		return asResponse(refuseAs(err), outcome)
	case changed == nil:
		return asResponse(admission.Allowed(""), outcome)
	case request.SubResource != "" || request.Operation == admissionv1.Delete:
		return asResponse(admission.PatchResponseFromRaw(request.Object.Raw, changed), outcome)
	}
	v, err := g.judge(ctx, &request, changed)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Could not judge an object that a webhook or a policy changed", "kind", request.Kind.Kind, "object", klog.KRef(request.Namespace, request.Name))
		return refuse(unavailable(err))
	}
	return asResponse(v.patch(request.Object.Raw), outcome)
}

// validatingGate answers for the hooks that judge, last of all and whoever writes.
type validatingGate struct{ view *hookView }

var _ admission.Handler = (*validatingGate)(nil)

// Handle implements admission.Handler.
func (g *validatingGate) Handle(ctx context.Context, request admission.Request) admission.Response {
	outcome, err := g.view.validate(ctx, &request.AdmissionRequest)
	if err != nil {
		return asResponse(refuseAs(err), outcome)
	}
	return asResponse(admission.Allowed(""), outcome)
}
