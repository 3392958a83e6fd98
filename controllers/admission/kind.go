package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	upstreamappsv1 "k8s.io/api/apps/v1"
	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	upstreamnetworkingv1 "k8s.io/api/networking/v1"
	upstreampolicyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	networkingv1 "github.com/keelson-dev/keelson/apis/networking/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
	"github.com/keelson-dev/keelson/apis/support"
)

// kind is what admission knows about one kind. Its functions are pure, but for
// review of a Service, which lists other Services.
type kind struct {
	// name and resource are those of the built-in kind and of Keelson's alike.
	name, resource string
	// upstream and stored are the group and version of the built-in kind and of
	// Keelson's.
	upstream, stored schema.GroupVersion
	clusterScoped    bool
	// section is the field that upstream defaults and validates: spec, subsets, template
	// or data.
	section string
	// beside are further such fields, of a kind that has no one section.
	beside []string
	// template is where the kind has a template of Pods, nil for none.
	template []string
	// prepare takes out of probe what the dry run cannot judge in another namespace
	// or with another server's ranges. It sees the stored object on update, else nil.
	prepare func(probe tree, old []byte) error
	// rename gives upstream's errors about the probe the paths of the object; nil when
	// they are the same.
	rename func(c change, causes []metav1.StatusCause) ([]metav1.StatusCause, error)
	// metadata judges the metadata of an update; nil leaves it to the API server.
	metadata func(c change) (field.ErrorList, error)
	// annotation is one that upstream keeps a field in, which review completes; "" for none.
	annotation string
	// review completes what upstream answered and lists Keelson's own errors.
	review func(ctx context.Context, c change) (outcome, error)
}

func (k kind) sections() []string { return append([]string{k.section}, k.beside...) }

// change is one request as review sees it.
type change struct {
	namespace, name string
	// user is the object as it was sent; old is the stored one, nil on create.
	user, old []byte
	// answer is upstream's version of the probe, nil when upstream refused it. The
	// rules then judge the user's object, so that all errors come at once.
	answer []byte
}

func (c change) isCreate() bool { return c.old == nil }

// base is the object to complete and to judge.
func (c change) base() []byte {
	if c.answer != nil {
		return c.answer
	}
	return c.user
}

// outcome is what review makes of a change.
type outcome struct {
	// set holds the values of top-level fields of the object to store; metadata is
	// merged field by field.
	set    map[string]any
	errors field.ErrorList
	// warnings are for the person, beside upstream's.
	warnings []string
	// refusal is the answer where upstream would not look at the errors.
	refusal *metav1.Status
}

// typeError is an object that does not fit its Go type; the message is upstream's.
type typeError struct{ err error }

func (e *typeError) Error() string { return e.err.Error() }
func (e *typeError) Unwrap() error { return e.err }

// decode reads raw into out as the API server does: exact names, whole numbers.
func decode(raw []byte, out any) error {
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, out); err != nil {
		return &typeError{err}
	}
	return nil
}

// decodeAll decodes the user's object, the one to judge, and the stored one, which
// is left alone on create.
func decodeAll[T any](c change) (user, base, old *T, err error) {
	user, base = new(T), new(T)
	if err := decode(c.user, user); err != nil {
		return nil, nil, nil, err
	}
	if err := decode(c.base(), base); err != nil {
		return nil, nil, nil, err
	}
	if c.isCreate() {
		return user, base, nil, nil
	}
	old = new(T)
	if err := decode(c.old, old); err != nil {
		return nil, nil, nil, fmt.Errorf("decode the stored object: %w", err)
	}
	return user, base, old, nil
}

// probeOf is the object that the dry run gets: the built-in kind with the user's
// metadata, as far as it is the user's.
func probeOf(k kind, user []byte, old []byte) (tree, error) {
	object, err := decodeTree(user)
	if err != nil {
		return nil, err
	}
	metadata := tree{}
	for _, key := range []string{"name", "generateName", "labels", "annotations"} {
		if value, ok := object.child("metadata")[key]; ok {
			metadata[key] = value
		}
	}
	probe := tree{"apiVersion": k.upstream.String(), "kind": k.name, "metadata": map[string]any(metadata)}
	for _, section := range k.sections() {
		if value, ok := object[section]; ok {
			probe[section] = value
		}
	}
	if k.prepare != nil {
		if err := k.prepare(probe, old); err != nil {
			return nil, err
		}
	}
	return probe, nil
}

// desired is the user's object with the outcome written into it.
func desired(user []byte, o outcome) ([]byte, error) {
	object, err := decodeTree(user)
	if err != nil {
		return nil, err
	}
	for key, value := range o.set {
		if key != "metadata" {
			object[key] = value
			continue
		}
		metadata := object.child("metadata")
		for field, v := range value.(map[string]any) {
			metadata[field] = v
		}
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode the object: %w", err)
	}
	return raw, nil
}

// ratchet leaves out errors that the stored object has too: an object that became
// invalid with an upgrade can still be changed elsewhere.
func ratchet(errs, stored field.ErrorList) field.ErrorList {
	had := map[string]bool{}
	for _, e := range stored {
		had[e.Error()] = true
	}
	var kept field.ErrorList
	for _, e := range errs {
		if !had[e.Error()] {
			kept = append(kept, e)
		}
	}
	return kept
}

// kinds lists every kind that the webhook serves.
func kinds(services servicePolicy, pods podPolicy) []kind {
	inSpec, inJob := []string{"spec", "template"}, []string{"spec", "jobTemplate", "spec", "template"}
	return slices.Concat(
		of(corev1.SchemeGroupVersion, keelsonv1.GroupVersion,
			kind{name: "Pod", resource: "pods", section: "spec", prepare: preparePod, rename: renameEphemeral, metadata: reviewMirror, review: pods.review},
			kind{name: "ReplicationController", template: inSpec, resource: "replicationcontrollers", section: "spec", review: reviewReplicationController},
			kind{name: "Service", resource: "services", section: "spec", prepare: prepareService, review: services.review},
			kind{name: "Endpoints", resource: "endpoints", section: "subsets", review: reviewEndpoints},
			kind{name: "Node", resource: "nodes", section: "spec", clusterScoped: true, review: reviewNode},
			kind{name: "PodTemplate", template: []string{"template"}, resource: "podtemplates", section: "template", review: reviewPodTemplate},
			kind{name: "LimitRange", resource: "limitranges", section: "spec", review: specReview(support.CheckLimitRange, nil)},
			kind{name: "ResourceQuota", resource: "resourcequotas", section: "spec", review: specReview(support.CheckResourceQuota, checkResourceQuotaUpdate)},
		),
		of(upstreamappsv1.SchemeGroupVersion, appsv1.GroupVersion,
			kind{name: "ReplicaSet", template: inSpec, resource: "replicasets", section: "spec", review: specReview(support.CheckReplicaSet, checkReplicaSetUpdate)},
			kind{name: "Deployment", template: inSpec, resource: "deployments", section: "spec", review: specReview(support.CheckDeployment, checkDeploymentUpdate)},
			kind{name: "DaemonSet", template: inSpec, resource: "daemonsets", section: "spec", annotation: upstreamappsv1.DeprecatedTemplateGeneration, review: reviewDaemonSet},
			kind{name: "StatefulSet", template: inSpec, resource: "statefulsets", section: "spec", review: specReview(support.CheckStatefulSet, checkStatefulSetUpdate)},
			kind{name: "ControllerRevision", resource: "controllerrevisions", section: "data", review: reviewControllerRevision},
		),
		of(upstreambatchv1.SchemeGroupVersion, batchv1.GroupVersion,
			kind{name: "Job", template: inSpec, resource: "jobs", section: "spec", prepare: prepareJob, review: reviewJob},
			kind{name: "CronJob", template: inJob, resource: "cronjobs", section: "spec", review: specReview(support.CheckCronJob, nil)},
		),
		of(upstreamautoscalingv2.SchemeGroupVersion, autoscalingv2.GroupVersion,
			kind{name: "HorizontalPodAutoscaler", resource: "horizontalpodautoscalers", section: "spec", review: specReview(support.CheckHorizontalPodAutoscaler, nil)},
		),
		of(upstreampolicyv1.SchemeGroupVersion, policyv1.GroupVersion,
			kind{name: "PodDisruptionBudget", resource: "poddisruptionbudgets", section: "spec", review: specReview(support.CheckPodDisruptionBudget, nil)},
		),
		of(upstreamdiscoveryv1.SchemeGroupVersion, discoveryv1.GroupVersion,
			kind{name: "EndpointSlice", resource: "endpointslices", section: "endpoints", beside: []string{"addressType", "ports"}, review: reviewEndpointSlice},
		),
		of(upstreamnetworkingv1.SchemeGroupVersion, networkingv1.GroupVersion,
			kind{name: "NetworkPolicy", resource: "networkpolicies", section: "spec", review: reviewNetworkPolicy},
		),
	)
}

// of puts the group and version of its kinds into each.
func of(upstream, stored schema.GroupVersion, kinds ...kind) []kind {
	for i := range kinds {
		kinds[i].upstream, kinds[i].stored = upstream, stored
	}
	return kinds
}

// setMetadata is an outcome's metadata with the fields that are set.
func setMetadata(labels, annotations map[string]string, finalizers []string) map[string]any {
	set := map[string]any{}
	if labels != nil {
		set["labels"] = labels
	}
	if annotations != nil {
		set["annotations"] = annotations
	}
	if finalizers != nil {
		set["finalizers"] = finalizers
	}
	return set
}

var specPath = field.NewPath("spec")
