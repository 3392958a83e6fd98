package resources

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/keelson-dev/keelson/gateway/table"
)

// containerLists are the fields of a spec whose containers can be resized.
var containerLists = []string{"initContainers", "containers"}

// onlyResources is live with the resources of next and the version that next is a
// condition on; upstream's subresource drops everything else, and so refuses containers
// that are others.
func onlyResources(row table.Row, live, next map[string]any) (map[string]any, error) {
	if errs := checkOrder(live, next); len(errs) > 0 {
		return nil, apierrors.NewInvalid(row.UpstreamKind().GroupKind(), metaString(live, "name"), errs)
	}
	changed := runtime.DeepCopyJSON(live)
	for _, name := range []string{"resourceVersion", "uid"} {
		if value, ok := metadataOf(next)[name]; ok {
			metadataOf(changed)[name] = value
		}
	}
	spec := specOf(changed)
	if whole, ok := specOf(next)["resources"]; ok { // who does not know the field keeps it
		spec["resources"] = whole
	}
	for _, list := range containerLists {
		from := containersOf(next, list)
		for i, c := range containersOf(changed, list) {
			take(c, from[i], "resources")
			take(c, from[i], "resizePolicy")
		}
	}
	return changed, nil
}

func take(to, from map[string]any, name string) {
	if value, ok := from[name]; ok {
		to[name] = value
	} else {
		delete(to, name)
	}
}

func specOf(obj map[string]any) map[string]any {
	spec, ok := obj["spec"].(map[string]any)
	if !ok {
		spec = map[string]any{}
		obj["spec"] = spec
	}
	return spec
}

// containersOf are the containers of a list as the tree holds them.
func containersOf(obj map[string]any, list string) []map[string]any {
	spec, _ := obj["spec"].(map[string]any)
	elements, _ := spec[list].([]any)
	containers := make([]map[string]any, len(elements))
	for i, element := range elements {
		if containers[i], _ = element.(map[string]any); containers[i] == nil {
			containers[i] = map[string]any{}
		}
	}
	return containers
}

// checkOrder wants the same containers in the same order, in upstream's words.
func checkOrder(live, next map[string]any) field.ErrorList {
	var errs field.ErrorList
	for _, list := range []string{"containers", "initContainers"} {
		path := field.NewPath("spec", list)
		before, after := containersOf(live, list), containersOf(next, list)
		if len(before) != len(after) {
			errs = append(errs, field.Forbidden(path, list+" may not be added or removed on resize"))
			continue
		}
		for i := range before {
			if before[i]["name"] != after[i]["name"] {
				errs = append(errs, field.Forbidden(path.Index(i).Child("name"), list+" may not be renamed or reordered on resize"))
			}
		}
	}
	return errs
}

// changesResources says that next asks for other resources than live. Other containers
// are not looked at: they are refused for themselves.
func changesResources(live, next map[string]any) (bool, error) {
	pairs := [][2]any{{specOf(live)["resources"], specOf(next)["resources"]}}
	for _, list := range containerLists {
		before := map[any]any{}
		for _, c := range containersOf(live, list) {
			before[c["name"]] = c["resources"]
		}
		for _, c := range containersOf(next, list) {
			if had, ok := before[c["name"]]; ok {
				pairs = append(pairs, [2]any{had, c["resources"]})
			}
		}
	}
	for _, pair := range pairs {
		before, err := requirementsOf(pair[0])
		if err != nil {
			return false, err
		}
		after, err := requirementsOf(pair[1])
		if err != nil {
			return false, err
		}
		if !equality.Semantic.DeepEqual(before, after) {
			return true, nil
		}
	}
	return false, nil
}

// requirementsOf reads resources with the default that a request is the limit.
func requirementsOf(value any) (corev1.ResourceRequirements, error) {
	var r corev1.ResourceRequirements
	tree, ok := value.(map[string]any)
	if !ok {
		return r, nil
	}
	if err := decodeInto(tree, &r); err != nil {
		return r, apierrors.NewBadRequest(fmt.Sprintf("cannot read resources: %v", err))
	}
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; !ok {
			if r.Requests == nil {
				r.Requests = corev1.ResourceList{}
			}
			r.Requests[name] = limit
		}
	}
	return r, nil
}

// namesResources says that an apply is about resources.
func namesResources(wanted map[string]any) bool {
	if specOf(wanted)["resources"] != nil {
		return true
	}
	for _, list := range containerLists {
		for _, c := range containersOf(wanted, list) {
			if c["resources"] != nil {
				return true
			}
		}
	}
	return false
}

// keepResources completes what an apply does not mention with what live has.
func keepResources(live, wanted map[string]any) {
	specOf(wanted)["resources"] = merged(specOf(live)["resources"], specOf(wanted)["resources"])
	for _, list := range containerLists {
		had := map[any]any{}
		for _, c := range containersOf(live, list) {
			had[c["name"]] = c["resources"]
		}
		for _, c := range containersOf(wanted, list) {
			c["resources"] = merged(had[c["name"]], c["resources"])
		}
	}
}

// merged is base with the members of over, at every level.
func merged(base, over any) any {
	b, _ := base.(map[string]any)
	o, ok := over.(map[string]any)
	if !ok {
		return base
	}
	all := map[string]any{}
	for name, value := range b {
		all[name] = value
	}
	for name, value := range o {
		if _, object := value.(map[string]any); object {
			value = merged(all[name], value)
		}
		all[name] = value
	}
	return all
}

// applyOfResources is the apply of nothing but resources to the Pod.
func (c *call) applyOfResources(wanted map[string]any) (target, []byte, error) {
	if _, err := c.fetch(c.ctx, c.object()); err != nil {
		return target{}, nil, err // a subresource creates nothing
	}
	only := map[string]any{"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": map[string]any{"name": c.name}}
	for _, name := range []string{"resourceVersion", "uid"} {
		if value := metaString(wanted, name); value != "" {
			metadataOf(only)[name] = value
		}
	}
	spec := specOf(only)
	take(spec, specOf(wanted), "resources")
	for _, list := range containerLists {
		var containers []any
		for _, from := range containersOf(wanted, list) {
			container := map[string]any{"name": from["name"]}
			take(container, from, "resources")
			take(container, from, "resizePolicy")
			containers = append(containers, container)
		}
		if containers != nil {
			spec[list] = containers
		}
	}
	raw, err := encodeTree(only)
	return c.object(), raw, err
}
