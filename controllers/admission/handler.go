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
	k, known := h.kinds[request.Kind.Kind]
	if !known || request.SubResource != "" {
		return refuse(badRequest(fmt.Sprintf("the webhook does not serve %s %s: the registration is wrong", request.Kind.Kind, request.SubResource)))
	}
	if request.Operation != admissionv1.Create && request.Operation != admissionv1.Update {
		return admission.Allowed("")
	}
	c := change{namespace: request.Namespace, name: request.Name, user: request.Object.Raw}
	if request.Operation == admissionv1.Update {
		c.old = request.OldObject.Raw
	}
	if c.name == "" {
		c.name = generateName(c.user)
	}
	response, err := h.judge(ctx, k, c)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Could not judge an object", "kind", k.name, "object", klog.KRef(c.namespace, c.name))
		return refuse(unavailable(err))
	}
	return response
}

func (h *handler) judge(ctx context.Context, k kind, c change) (admission.Response, error) {
	if !c.isCreate() {
		if answer, err := judgeMetadata(k, c); err != nil || !answer.Allowed {
			return answer, err
		}
		leave, err := notOurs(k, c)
		if err != nil {
			return admission.Response{}, err
		}
		if leave {
			return admission.Allowed(""), nil
		}
	}
	probe, err := probeOf(k, c.user, c.old)
	if err != nil {
		return admission.Response{}, err
	}
	answer, warnings, err := h.oracle.dryRun(ctx, k, probe)
	if errors.Is(err, errNoBuiltin) {
		return admission.Allowed("").WithWarnings("the API server has no built-in " + k.name + ": only the schema of the CustomResourceDefinition is checked"), nil
	}
	var upstream []metav1.StatusCause
	if err != nil {
		status, judged := refusal(err)
		switch {
		case !judged:
			return admission.Response{}, fmt.Errorf("dry run of the built-in %s: %w", k.name, err)
		case status.Reason != metav1.StatusReasonInvalid || status.Details == nil:
			return refuse(&status).WithWarnings(ownWarnings(warnings)...), nil
		}
		upstream = status.Details.Causes
		if k.rename != nil {
			if upstream, err = k.rename(c, upstream); err != nil {
				return admission.Response{}, err
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
func conclude(ctx context.Context, k kind, c change, upstream []metav1.StatusCause, warnings []string) (admission.Response, error) {
	result, err := k.review(ctx, c)
	var wrongType *typeError
	if errors.As(err, &wrongType) {
		return refuse(badRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", k.name, k.stored.Version, k.name, wrongType))), nil
	}
	if err != nil {
		return admission.Response{}, err
	}
	if result.refusal != nil {
		return refuse(result.refusal).WithWarnings(warnings...), nil
	}
	if len(upstream) > 0 || len(result.errors) > 0 {
		return refuse(invalid(k, c.name, upstream, result.errors)).WithWarnings(warnings...), nil
	}
	warnings = append(warnings, result.warnings...)
	want, err := desired(c.user, result)
	if err != nil {
		return admission.Response{}, err
	}
	return admission.PatchResponseFromRaw(c.user, want).WithWarnings(warnings...), nil
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
	return !slices.ContainsFunc(k.sections(), func(section string) bool {
		return !reflect.DeepEqual(now[section], old[section])
	}), nil
}

// judgeMetadata judges the metadata of an update, as far as that is left to Keelson.
func judgeMetadata(k kind, c change) (admission.Response, error) {
	if k.metadata == nil {
		return admission.Allowed(""), nil
	}
	errs, err := k.metadata(c)
	switch {
	case err != nil:
		return admission.Response{}, err
	case len(errs) > 0:
		return refuse(invalid(k, c.name, nil, errs)), nil
	}
	return admission.Allowed(""), nil
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
