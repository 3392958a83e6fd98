package resources

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// bind assigns a Pod to a node: POST pods/NAME/binding.
func (c *call) bind() error {
	binding, err := c.readBinding()
	if err != nil {
		return err
	}
	if binding.Name == "" {
		binding.Name = c.name
	}
	if binding.Name != c.name {
		return apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	return c.assign(binding)
}

// bindLegacy does the same by POST bindings, which names the Pod in the body only.
func (c *call) bindLegacy() error {
	binding, err := c.readBinding()
	if err != nil {
		return err
	}
	if binding.Name == "" {
		return apierrors.NewBadRequest("metadata.name of the Binding is missing: it names the pod")
	}
	return c.assign(binding)
}

func (c *call) readBinding() (*corev1.Binding, error) {
	body, err := codec.ReadBody(c.r)
	if err != nil {
		return nil, err
	}
	binding := &corev1.Binding{}
	if err := c.codec.DecodeInto(c.r.Header.Get("Content-Type"), body, corev1.SchemeGroupVersion.WithKind("Binding"), binding); err != nil {
		return nil, err
	}
	if binding.Namespace != "" && binding.Namespace != c.namespace {
		return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	if errs := checkBinding(binding); len(errs) > 0 {
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Binding").GroupKind(), binding.Name, errs)
	}
	return binding, nil
}

func checkBinding(binding *corev1.Binding) field.ErrorList {
	path := field.NewPath("target")
	var errs field.ErrorList
	if kind := binding.Target.Kind; kind != "" && kind != "Node" {
		errs = append(errs, field.NotSupported(path.Child("kind"), kind, []string{"Node", "<empty>"}))
	}
	if binding.Target.Name == "" {
		return append(errs, field.Required(path.Child("name"), ""))
	}
	for _, problem := range validation.NameIsDNSSubdomain(binding.Target.Name, false) {
		errs = append(errs, field.Invalid(path.Child("name"), binding.Target.Name, problem))
	}
	return errs
}

// assign writes the binding with one patch, as Keelson's scheduler does, and in the
// gateway's own name: admission lets nobody else set the node of a Pod. (Local mode has
// only the caller's name, and admission refuses there whom it does not know.)
func (c *call) assign(binding *corev1.Binding) error {
	format, err := c.codec.Negotiate(c.r, false)
	if err != nil {
		return err
	}
	if err := c.admitCreate(corev1.SchemeGroupVersion.WithKind("Binding"), "binding", binding.Name, binding); err != nil {
		return err
	}
	if errs := checkBinding(binding); len(errs) > 0 { // it may have been changed
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Binding").GroupKind(), binding.Name, errs)
	}
	t := c.named(c.namespace, binding.Name)
	err = retry(c.ctx, func() error {
		live, err := c.fetch(c.ctx, t)
		if err != nil {
			return err
		}
		pod := &corev1.Pod{}
		if err := decodeInto(live, pod); err != nil {
			return err
		}
		if err := checkAssignable(pod, binding); err != nil {
			return final(err)
		}
		raw, err := json.Marshal(bindingPatch(pod, binding))
		if err != nil {
			return fmt.Errorf("encode a binding: %w", err)
		}
		_, _, err = c.ask(upstream.AsGateway(c.ctx), asked{method: http.MethodPatch, target: t, query: writeQuery(c.r), contentType: string(types.MergePatchType), body: raw})
		return err
	})
	if err != nil {
		return err
	}
	return c.logWrite(c.codec.WriteObject(c.w, c.r, format, http.StatusCreated, &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}))
}

// checkAssignable says in upstream's words why the Pod cannot be bound.
func checkAssignable(pod *corev1.Pod, binding *corev1.Binding) error {
	conflict := func(format string, args ...any) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, pod.Name, fmt.Errorf(format, args...))
	}
	switch {
	case binding.UID != "" && binding.UID != pod.UID:
		return conflict("Precondition failed: UID in precondition: %v, UID in object meta: %v", binding.UID, pod.UID)
	case binding.ResourceVersion != "" && binding.ResourceVersion != pod.ResourceVersion:
		return conflict("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", binding.ResourceVersion, pod.ResourceVersion)
	case pod.DeletionTimestamp != nil:
		return conflict("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return conflict("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	case len(pod.Spec.SchedulingGates) > 0:
		return conflict("pod %v has non-empty .spec.schedulingGates", pod.Name)
	}
	return nil
}

// bindingPatch sets the node and, in the same write, the finalizer with which the node
// keeps the object until it is done, and the generation that the binding does not count
// for. Labels and annotations of the Binding go to the Pod.
func bindingPatch(pod *corev1.Pod, binding *corev1.Binding) map[string]any {
	finalizers := slices.Clone(pod.Finalizers)
	if !slices.Contains(finalizers, keelsonv1.PodFinalizer) {
		finalizers = append(finalizers, keelsonv1.PodFinalizer)
	}
	metadata := map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion, "finalizers": finalizers}
	if len(binding.Labels) > 0 {
		metadata["labels"] = binding.Labels
	}
	annotations := maps.Clone(binding.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[keelsonv1.GenerationBeforeBindingAnnotation] = strconv.FormatInt(pod.Generation, 10)
	metadata["annotations"] = annotations
	return map[string]any{"metadata": metadata, "spec": map[string]any{"nodeName": binding.Target.Name}}
}
