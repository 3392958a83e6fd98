package admissionhooks

import (
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured/unstructuredscheme"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"

	"github.com/keelson-dev/keelson/gateway/autoscalingv1"
	"github.com/keelson-dev/keelson/gateway/table"
)

// interfaces lets the plug-ins work with trees, as they do for custom resources: what an
// object says stays as it was written, known here or not. Defaults after a mutation are
// for whoever calls this package.
type interfaces struct {
	create     runtime.ObjectCreater
	typer      runtime.ObjectTyper
	equivalent runtime.EquivalentResourceMapper
}

var _ admission.ObjectInterfaces = interfaces{}

func newInterfaces(rows []table.Row) interfaces {
	equivalent := runtime.NewEquivalentResourceRegistry()
	for _, row := range rows {
		for _, version := range append([]string{row.Upstream.Version}, row.OlderVersions...) {
			resource, kind := row.Upstream.GroupResource().WithVersion(version), row.UpstreamKind().GroupKind().WithVersion(version)
			equivalent.RegisterKindFor(resource, "", kind)
			if row.Status {
				equivalent.RegisterKindFor(resource, "status", kind)
			}
		}
	}
	return interfaces{equivalent: equivalent, create: unstructuredscheme.NewUnstructuredCreator(), typer: unstructuredscheme.NewUnstructuredObjectTyper()}
}

func (i interfaces) GetObjectCreater() runtime.ObjectCreater   { return i.create }
func (i interfaces) GetObjectTyper() runtime.ObjectTyper       { return i.typer }
func (interfaces) GetObjectDefaulter() runtime.ObjectDefaulter { return noDefaults{} }
func (interfaces) GetObjectConvertor() runtime.ObjectConvertor { return convertor{} }
func (i interfaces) GetEquivalentResourceMapper() runtime.EquivalentResourceMapper {
	return i.equivalent
}

type noDefaults struct{}

func (noDefaults) Default(runtime.Object) {}

// convertor passes trees on, autoscalers in the version that a rule names.
type convertor struct{}

func (convertor) Convert(in, out, _ any) error {
	from, ok := in.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("convert %T: it is no tree", in)
	}
	to, ok := out.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("convert to %T: it is no tree", out)
	}
	if !between(from, to) {
		to.Object = maps.Clone(from.Object)
		return nil
	}
	var err error
	if to.GroupVersionKind().Version == autoscalingv1.Version {
		to.Object, err = autoscalingv1.FromV2(from.Object)
	} else {
		to.Object, err = autoscalingv1.ToV2(from.Object, true)
	}
	return err
}

// between says whether two objects are autoscalers of different versions.
func between(from, to *unstructured.Unstructured) bool {
	return from.GetKind() == autoscalingv1.Kind && to.GetKind() == autoscalingv1.Kind && from.GetAPIVersion() != to.GetAPIVersion()
}

func (convertor) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	if _, ok := in.(*unstructured.Unstructured); !ok {
		return nil, fmt.Errorf("convert %T: it is no tree", in)
	}
	return in, nil
}

func (convertor) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}
