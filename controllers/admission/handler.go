package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// handler answers admission requests of every kind in kinds.
type handler struct {
	oracle oracle
	kinds  map[string]kind
	pods   podPolicy
	// hooks are nil where nobody configures any.
	hooks *hookView
}

// verdict is what the handler says of an object: a refusal, or the object to store.
type verdict struct {
	refusal *metav1.Status
	// want is the object to store, nil for the one that was judged.
	want     []byte
	warnings []string
}

// patch is the verdict about an object that was sent as sent.
func (v verdict) patch(sent []byte) admission.Response {
	switch {
	case v.refusal != nil:
		return refuse(v.refusal).WithWarnings(v.warnings...)
	case v.want == nil:
		return admission.Allowed("").WithWarnings(v.warnings...)
	}
	return admission.PatchResponseFromRaw(sent, v.want).WithWarnings(v.warnings...)
}

var _ admission.Handler = (*handler)(nil)

func newHandler(o oracle, services servicePolicy, pods podPolicy) *handler {
	h := &handler{oracle: o, kinds: map[string]kind{}, pods: pods}
	for _, k := range kinds(services, pods) {
		h.kinds[k.name] = k
	}
	return h
}

// Handle judges and completes one object.
func (h *handler) Handle(ctx context.Context, request admission.Request) admission.Response {
	if _, known := h.kinds[request.Kind.Kind]; !known || request.SubResource != "" {
		return refuse(badRequest(fmt.Sprintf("the webhook does not serve %s %s: the registration is wrong", request.Kind.Kind, request.SubResource)))
	}
	if request.Operation != admissionv1.Create && request.Operation != admissionv1.Update {
		return admission.Allowed("")
	}
	v, err := h.judgeObject(ctx, &request, request.Object.Raw)
	if err == nil && h.hooks != nil && h.hooks.mutates(&request.AdmissionRequest) {
		return h.letHooksChange(ctx, &request, v)
	}
	return h.answer(ctx, &request, v, err)
}

func (h *handler) answer(ctx context.Context, request *admission.Request, v verdict, err error) admission.Response {
	if err != nil {
		klog.FromContext(ctx).Error(err, "Could not judge an object", "kind", request.Kind.Kind, "object", klog.KRef(request.Namespace, request.Name))
		return refuse(unavailable(err))
	}
	return v.patch(request.Object.Raw)
}

// letHooksChange shows hooks the object as it is after the verdict, with its defaults, or
// as it was sent when it was refused: a hook may mend it. What they change is judged
// anew.
func (h *handler) letHooksChange(ctx context.Context, request *admission.Request, first verdict) admission.Response {
	changed, outcome, err := h.hooks.mutate(ctx, &request.AdmissionRequest, first.want)
	switch {
	case err != nil:
		return asResponse(refuseAs(err), outcome)
	case changed == nil:
		return asResponse(first.patch(request.Object.Raw), outcome)
	}
	second, err := h.judgeObject(ctx, request, changed)
	if err == nil && second.want == nil {
		second.want = changed
	}
	return asResponse(h.answer(ctx, request, second, err), outcome)
}

// judgeObject judges object as if it were the one of the request.
func (h *handler) judgeObject(ctx context.Context, request *admission.Request, object []byte) (verdict, error) {
	k, known := h.kinds[request.Kind.Kind]
	if !known {
		return verdict{}, fmt.Errorf("the webhook does not serve %s: the registration is wrong", request.Kind.Kind)
	}
	c := change{namespace: request.Namespace, name: request.Name, user: object}
	if request.Operation == admissionv1.Update {
		c.old = request.OldObject.Raw
	}
	if c.name == "" {
		c.name = generateName(c.user)
	}
	return h.judge(ctx, k, c)
}

func (h *handler) judge(ctx context.Context, k kind, c change) (verdict, error) {
	if !c.isCreate() {
		if v, err := judgeMetadata(k, c); err != nil || v.refusal != nil {
			return v, err
		}
		leave, err := notOurs(k, c)
		if err != nil {
			return verdict{}, err
		}
		if leave {
			return verdict{}, nil
		}
	}
	probe, err := probeOf(k, c.user, c.old)
	if err != nil {
		return verdict{}, err
	}
	answer, warnings, err := h.oracle.dryRun(ctx, k, probe)
	if errors.Is(err, errNoBuiltin) {
		return verdict{warnings: []string{"the API server has no built-in " + k.name + ": only the schema of the CustomResourceDefinition is checked"}}, nil
	}
	var upstream []metav1.StatusCause
	if err != nil {
		status, judged := refusal(err)
		switch {
		case !judged:
			return verdict{}, fmt.Errorf("dry run of the built-in %s: %w", k.name, err)
		case status.Reason != metav1.StatusReasonInvalid || status.Details == nil:
			return verdict{refusal: &status, warnings: ownWarnings(warnings)}, nil
		}
		upstream = status.Details.Causes
		if k.rename != nil {
			if upstream, err = k.rename(c, upstream); err != nil {
				return verdict{}, err
			}
		}
	} else {
		c.answer = answer
	}
	return conclude(ctx, k, c, upstream, append(ownWarnings(warnings), h.templateWarnings(ctx, k, c)...))
}

// templateWarnings are what the Namespace has to say about the Pods of a template.
func (h *handler) templateWarnings(ctx context.Context, k kind, c change) []string {
	if k.template == nil || h.pods.warn == nil {
		return nil
	}
	t, err := decodeTree(c.base())
	if err != nil {
		return nil
	}
	for _, field := range k.template {
		t = t.child(field)
	}
	raw, err := json.Marshal(t)
	if err != nil {
		return nil
	}
	var template corev1.PodTemplateSpec
	if err := decode(raw, &template); err != nil {
		return nil // the review says what is wrong with it
	}
	return h.pods.warn(ctx, c.namespace, &template)
}

// conclude joins upstream's opinion with Keelson's rules.
func conclude(ctx context.Context, k kind, c change, upstream []metav1.StatusCause, warnings []string) (verdict, error) {
	result, err := k.review(ctx, c)
	var wrongType *typeError
	if errors.As(err, &wrongType) {
		return verdict{refusal: badRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", k.name, k.stored.Version, k.name, wrongType))}, nil
	}
	if err != nil {
		return verdict{}, err
	}
	if result.refusal != nil {
		return verdict{refusal: result.refusal, warnings: warnings}, nil
	}
	if len(upstream) > 0 || len(result.errors) > 0 {
		return verdict{refusal: invalid(k, c.name, upstream, result.errors), warnings: warnings}, nil
	}
	warnings = append(warnings, result.warnings...)
	want, err := desired(c.user, result)
	if err != nil {
		return verdict{}, err
	}
	return verdict{want: want, warnings: warnings}, nil
}

// notOurs says whether the API server alone has to judge an update: one that leaves
// alone everything that this package judges, for metadata is the API server's own to
// validate; and one of another version than the stored one. What looks changed in it
// may be what others wrote since: it is a conflict, which the API server finds after
// admission, and which clients know how to try again.
func notOurs(k kind, c change) (bool, error) {
	now, err := decodeTree(c.user)
	if err != nil {
		return false, err
	}
	old, err := decodeTree(c.old)
	if err != nil {
		return false, err
	}
	version := now.child("metadata").text("resourceVersion")
	if version != "" && version != old.child("metadata").text("resourceVersion") {
		return true, nil
	}
	if k.annotation != "" && !reflect.DeepEqual(annotations(now)[k.annotation], annotations(old)[k.annotation]) {
		return false, nil
	}
	return !slices.ContainsFunc(k.sections(), func(section string) bool {
		return !reflect.DeepEqual(now[section], old[section])
	}), nil
}

func annotations(object tree) tree { return object.child("metadata").child("annotations") }

// judgeMetadata judges the metadata of an update, as far as that is left to Keelson.
func judgeMetadata(k kind, c change) (verdict, error) {
	if k.metadata == nil {
		return verdict{}, nil
	}
	errs, err := k.metadata(c)
	switch {
	case err != nil:
		return verdict{}, err
	case len(errs) > 0:
		return verdict{refusal: invalid(k, c.name, nil, errs)}, nil
	}
	return verdict{}, nil
}

// generateName is how errors call an object whose name is not made yet.
func generateName(object []byte) string {
	t, err := decodeTree(object)
	if err != nil {
		return ""
	}
	return t.child("metadata").text("generateName")
}

func refuse(status *metav1.Status) admission.Response {
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: false, Result: status}}
}

// ownWarnings leaves out the advice to use another built-in kind: it is not about
// Keelson's kind.
func ownWarnings(upstream []string) []string {
	var kept []string
	for _, w := range upstream {
		if !strings.Contains(w, "is deprecated in v1.") || strings.Contains(w, ":") {
			kept = append(kept, w)
		}
	}
	return kept
}
