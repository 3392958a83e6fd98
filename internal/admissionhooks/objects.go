package admissionhooks

import (
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured/unstructuredscheme"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
)

// interfaces lets the plug-ins work with trees, as they do for custom resources: what an
// object says stays as it was written, known here or not. Defaults after a mutation are
// for whoever calls this package.
type interfaces struct {
	creater runtime.ObjectCreater
	typer   runtime.ObjectTyper
}

var _ admission.ObjectInterfaces = interfaces{}

func newInterfaces() interfaces {
	return interfaces{creater: unstructuredscheme.NewUnstructuredCreator(), typer: unstructuredscheme.NewUnstructuredObjectTyper()}
}

func (i interfaces) GetObjectCreater() runtime.ObjectCreater   { return i.creater }
func (i interfaces) GetObjectTyper() runtime.ObjectTyper       { return i.typer }
func (interfaces) GetObjectDefaulter() runtime.ObjectDefaulter { return noDefaults{} }
func (interfaces) GetObjectConvertor() runtime.ObjectConvertor { return convertor{} }
func (interfaces) GetEquivalentResourceMapper() runtime.EquivalentResourceMapper {
	return runtime.NewEquivalentResourceRegistry()
}

type noDefaults struct{}

func (noDefaults) Default(runtime.Object) {}

// convertor passes trees on.
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
	to.Object = maps.Clone(from.Object)
	return nil
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
