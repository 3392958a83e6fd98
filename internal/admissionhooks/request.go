package admissionhooks

import (
	"maps"
	"strings"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Request is one request in upstream's names.
type Request struct {
	Operation admission.Operation
	// Resource and Subresource are what the request is about, Kind is that of Object.
	Resource    schema.GroupVersionResource
	Subresource string
	Kind        schema.GroupVersionKind
	// Namespace is empty for what has none, Name for an object whose name is not made yet.
	Namespace, Name string
	// Object and OldObject are trees with their apiVersion and kind, nil for none.
	Object, OldObject map[string]any
	// Options are those of the operation, nil for none.
	Options map[string]any
	User    user.Info
	DryRun  bool
}

// Point is what hooks are asked for.
func (r *Request) Point() Point {
	return Point{
		Operation: admissionregistrationv1.OperationType(r.Operation),
		Resource:  r.Resource.GroupResource(), Subresource: r.Subresource,
	}
}

// Outcome is what hooks say of a request that they let pass, and of one that they do not.
type Outcome struct {
	// Object is the changed object, nil for one that was left as it was.
	Object map[string]any
	// Warnings are for whoever sent the request.
	Warnings []string
	// Annotations are for the audit log.
	Annotations map[string]string
}

// attributes is a request as plug-ins see it, and collects what they say beside yes and
// no. Validating webhooks are called side by side.
type attributes struct {
	admission.Attributes

	mu          sync.Mutex
	warnings    []string
	annotations map[string]string
}

func newAttributes(r *Request) *attributes {
	return &attributes{Attributes: admission.NewAttributesRecord(
		treeOrNil(r.Object), treeOrNil(r.OldObject), r.Kind, r.Namespace, r.Name, r.Resource, r.Subresource,
		r.Operation, treeOrNil(r.Options), r.DryRun, r.User,
	)}
}

// treeOrNil keeps a missing object a nil interface.
func treeOrNil(tree map[string]any) runtime.Object {
	if tree == nil {
		return nil
	}
	return &unstructured.Unstructured{Object: tree}
}

// AddAnnotation implements admission.Attributes.
func (a *attributes) AddAnnotation(key, value string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.annotations == nil {
		a.annotations = map[string]string{}
	}
	// Whoever writes the audit log puts the name of the caller and a slash before it.
	a.annotations[strings.ReplaceAll(key, "/", ".")] = value
	return nil
}

// AddAnnotationWithLevel implements admission.Attributes. What is only for the levels that
// log whole requests stays out: the levels of the log are not known here.
func (a *attributes) AddAnnotationWithLevel(key, value string, level audit.Level) error {
	if audit.LevelMetadata.Less(level) {
		return nil
	}
	return a.AddAnnotation(key, value)
}

// AddWarning implements warning.Recorder.
func (a *attributes) AddWarning(_, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.warnings = append(a.warnings, text)
}

// outcome is what was collected.
func (a *attributes) outcome() Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Outcome{Warnings: a.warnings, Annotations: maps.Clone(a.annotations)}
}
