package support

import (
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// jsonField is one field of a struct as JSON shows it.
type jsonField struct {
	name  string
	index []int
	typ   reflect.Type
}

// jsonFields lists the fields of struct type t; inlined structs give theirs.
func jsonFields(t reflect.Type) []jsonField {
	var all []jsonField
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || strings.Contains(options, "inline") {
			continue
		}
		all = append(all, jsonField{name: name, index: f.Index, typ: f.Type})
	}
	return all
}

// structBelow returns the struct type that t leads to, and the suffix of its path
// ([*] for a list). It returns nil when t is a scalar, a map or a list of scalars.
func structBelow(t reflect.Type) (reflect.Type, string) {
	suffix := ""
	for {
		switch t.Kind() {
		case reflect.Pointer:
			t = t.Elem()
		case reflect.Slice:
			t = t.Elem()
			suffix += "[*]"
		case reflect.Struct:
			if isScalar(t) {
				return nil, ""
			}
			return t, suffix
		default:
			return nil, ""
		}
	}
}

// isScalar says whether t is a struct that JSON shows as one value.
func isScalar(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[resource.Quantity](), reflect.TypeFor[intstr.IntOrString](),
		reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]():
		return true
	}
	return false
}

// isEmpty says whether v sets nothing: the zero value, an empty list or map, or a
// pointer to a struct that sets nothing. A pointer to a scalar does set something.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil() || v.Elem().Kind() == reflect.Struct && !isScalar(v.Elem().Type()) && isEmpty(v.Elem())
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Struct:
		if isScalar(v.Type()) {
			return v.IsZero()
		}
		for i := range v.NumField() {
			if !isEmpty(v.Field(i)) {
				return false
			}
		}
		return true
	default:
		return v.IsZero()
	}
}
