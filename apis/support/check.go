package support

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CheckPod reports every field of a Pod's spec, or of a Pod template's spec at
// path, that Keelson does not implement.
func CheckPod(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	return podTable().check(spec, path)
}

// CheckRC reports every field of a ReplicationController's spec at path, its
// template included, that Keelson does not implement.
func CheckRC(spec *corev1.ReplicationControllerSpec, path *field.Path) field.ErrorList {
	all := replicationControllerTable().check(spec, path)
	if spec.Template != nil {
		all = append(all, CheckPod(&spec.Template.Spec, path.Child("template", "spec"))...)
	}
	return all
}

// CheckService reports every field of a Service's spec at path that Keelson does
// not implement.
func CheckService(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	return serviceTable().check(spec, path)
}

// CheckEndpoints reports every field of an Endpoints' subsets at path that Keelson
// does not implement.
func CheckEndpoints(subsets []corev1.EndpointSubset, path *field.Path) field.ErrorList {
	var all field.ErrorList
	table := endpointsTable()
	for i := range subsets {
		all = append(all, table.check(&subsets[i], path.Index(i))...)
	}
	return all
}

// CheckNode reports every field of a Node's spec at path that Keelson does not
// implement.
func CheckNode(spec *corev1.NodeSpec, path *field.Path) field.ErrorList {
	return nodeTable().check(spec, path)
}

func (t Table) check(root any, path *field.Path) field.ErrorList {
	return t.checkStruct(reflect.ValueOf(root).Elem(), t.Root, path)
}

func (t Table) checkStruct(v reflect.Value, key string, path *field.Path) field.ErrorList {
	var all field.ErrorList
	for _, f := range jsonFields(v.Type()) {
		value := v.FieldByIndex(f.index)
		if isEmpty(value) {
			continue
		}
		fieldKey, fieldPath := strings.TrimPrefix(key+"."+f.name, "."), path.Child(f.name)
		entry, ok := t.Entries[fieldKey]
		if !ok {
			entry = refused("this version of Keelson does not know the field")
		}
		if entry.exempt != nil && entry.exempt(v) {
			continue
		}
		switch entry.Level {
		case Refused:
			all = append(all, field.Forbidden(fieldPath, refusal(entry.Note)))
		case Limited:
			all = append(all, entry.checkValues(value, fieldPath)...)
		case Supported:
			all = append(all, t.checkBelow(value, fieldKey, fieldPath)...)
		}
	}
	return all
}

// checkBelow descends into structs and lists of structs that carry on in the table.
func (t Table) checkBelow(v reflect.Value, key string, path *field.Path) field.ErrorList {
	if below, _ := structBelow(v.Type()); below == nil || !t.continuesBelow(key) {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		return t.checkBelow(v.Elem(), key, path)
	case reflect.Slice:
		var all field.ErrorList
		for i := range v.Len() {
			all = append(all, t.checkBelow(v.Index(i), key+"[*]", path.Index(i))...)
		}
		return all
	default:
		return t.checkStruct(v, key, path)
	}
}

// continuesBelow says whether the table has entries under key. A supported struct
// without any is checked elsewhere (a template has its own table).
func (t Table) continuesBelow(key string) bool {
	for k := range t.Entries {
		if strings.HasPrefix(k, key+".") || strings.HasPrefix(k, key+"[*]") {
			return true
		}
	}
	return strings.HasSuffix(key, "[*]")
}

func (e Entry) checkValues(v reflect.Value, path *field.Path) field.ErrorList {
	var all field.ErrorList
	switch v.Kind() {
	case reflect.Pointer:
		return e.checkValues(v.Elem(), path)
	case reflect.Slice:
		for i := range v.Len() {
			all = append(all, e.checkValues(v.Index(i), path.Index(i))...)
		}
	case reflect.Map:
		var keys []string
		for _, key := range v.MapKeys() {
			keys = append(keys, key.String())
		}
		slices.Sort(keys)
		for _, key := range keys {
			all = append(all, e.checkValue(key, path.Key(key))...)
		}
	default:
		return e.checkValue(fmt.Sprint(v.Interface()), path)
	}
	return all
}

func (e Entry) checkValue(value string, path *field.Path) field.ErrorList {
	if e.allows(value) {
		return nil
	}
	what := fmt.Sprintf("%s is refused, only %s is allowed", value, strings.Join(e.Allowed, ", "))
	if e.Note != "" {
		what = e.Note + " (" + what + ")"
	}
	return field.ErrorList{field.Forbidden(path, refusal(what))}
}

func refusal(what string) string { return "not supported by Keelson yet: " + what }
