package admission

import (
	"context"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/quota"
)

// QuotaPath is where objects are counted against ResourceQuotas.
const QuotaPath = "/quota"

// quotaGate lets an object through when it fits in the quotas of its Namespace. The API
// server asks it last, when nothing changes the object any more and it has its UID, and
// only in Namespaces that have a quota (keelsonv1.QuotaLabel).
type quotaGate struct {
	reserve func(ctx context.Context, namespace string, request quota.Request, dryRun bool) error
	// ours are the resources that Keelson has its own kind of: the built-in objects of
	// the same name do not count.
	ours map[schema.GroupResource]bool
}

var _ admission.Handler = (*quotaGate)(nil)

// Handle implements admission.Handler.
func (g *quotaGate) Handle(ctx context.Context, request admission.Request) admission.Response {
	name, counts := g.name(schema.GroupResource{Group: request.Resource.Group, Resource: request.Resource.Resource})
	if !counts || request.SubResource != "" {
		return admission.Allowed("")
	}
	change := quota.Request{}
	var err error
	if change.Object, err = objectOf(name, request.Object.Raw); err != nil {
		return refuse(badRequest(err.Error()))
	}
	if request.Operation == admissionv1.Update {
		old, err := objectOf(name, request.OldObject.Raw)
		if err != nil {
			return refuse(badRequest(err.Error()))
		}
		change.Old = &old
		if equalUse(change.Object, old) {
			return admission.Allowed("")
		}
	}
	err = g.reserve(ctx, request.Namespace, change, request.DryRun != nil && *request.DryRun)
	if status, ok := asStatus(err, name, change.Object.Meta); ok {
		return refuse(status)
	}
	if err != nil {
		klog.FromContext(ctx).Error(err, "Could not count an object", "resource", name, "namespace", request.Namespace)
		return refuse(unavailable(err))
	}
	return admission.Allowed("")
}

// name is the upstream name of what is stored as resource; counts is false for built-in
// objects of which Keelson has its own kind.
func (g *quotaGate) name(resource schema.GroupResource) (name schema.GroupResource, counts bool) {
	upstream, stored := quota.UpstreamGroup(resource.Group)
	name = schema.GroupResource{Group: upstream, Resource: resource.Resource}
	return name, stored || !g.ours[name]
}

// objectOf reads what quotas need of an object.
func objectOf(name schema.GroupResource, raw []byte) (quota.Object, error) {
	o := quota.Object{Resource: name}
	switch name {
	case quota.Pods:
		o.Pod = &keelsonv1.Pod{}
		o.Meta = o.Pod
	case quota.Services:
		o.Service = &keelsonv1.Service{}
		o.Meta = o.Service
	case quota.Claims:
		o.Claim = &corev1.PersistentVolumeClaim{}
		o.Meta = o.Claim
	default:
		o.Meta = &metav1.PartialObjectMetadata{}
	}
	return o, decode(raw, o.Meta)
}

// equalUse says whether an update changes nothing that quotas look at.
func equalUse(now, old quota.Object) bool {
	switch {
	case now.Pod != nil:
		return now.Meta.GetGeneration() == old.Meta.GetGeneration()
	case now.Service != nil:
		return now.Service.Spec.Type == old.Service.Spec.Type && len(now.Service.Spec.Ports) == len(old.Service.Spec.Ports)
	case now.Claim != nil:
		a, b := now.Claim.Spec.Resources.Requests[corev1.ResourceStorage], old.Claim.Spec.Resources.Requests[corev1.ResourceStorage]
		return a.Equal(b)
	}
	return true
}

// refused is why an object does not fit.
type refused struct{ error }

// asStatus is upstream's answer for an object that does not fit.
func asStatus(err error, resource schema.GroupResource, object metav1.Object) (*metav1.Status, bool) {
	no, ok := err.(refused) //nolint:errorlint // made by this package and passed on as it is
	if !ok {
		return nil, false
	}
	name := object.GetName()
	if name == "" {
		name = object.GetGenerateName()
	}
	status := apierrors.NewForbidden(resource, name, no.error).Status()
	status.Code = http.StatusForbidden
	return &status, true
}

// ourResources are the upstream names of Keelson's kinds.
func ourResources() map[schema.GroupResource]bool {
	ours := map[schema.GroupResource]bool{}
	for _, k := range kinds(servicePolicy{}, podPolicy{}) {
		ours[schema.GroupResource{Group: k.upstream.Group, Resource: k.resource}] = true
	}
	return ours
}
