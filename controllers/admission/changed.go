package admission

import (
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// changedFields lists the paths at which the JSON of two values differs: scalars,
// added or removed fields, and lists of different lengths as a whole.
func changedFields(now, old any, path *field.Path) ([]*field.Path, error) {
	nowTree, err := toTree(now)
	if err != nil {
		return nil, err
	}
	oldTree, err := toTree(old)
	if err != nil {
		return nil, err
	}
	return differences(map[string]any(nowTree), map[string]any(oldTree), path), nil
}

func differences(now, old any, path *field.Path) []*field.Path {
	switch n := now.(type) {
	case map[string]any:
		if o, ok := old.(map[string]any); ok {
			return mapDifferences(n, o, path)
		}
	case []any:
		if o, ok := old.([]any); ok && len(n) == len(o) {
			var all []*field.Path
			for i := range n {
				all = append(all, differences(n[i], o[i], path.Index(i))...)
			}
			return all
		}
	}
	if reflect.DeepEqual(now, old) {
		return nil
	}
	return []*field.Path{path}
}

func mapDifferences(now, old map[string]any, path *field.Path) []*field.Path {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(now)), maps.Keys(old))
	slices.Sort(keys)
	var all []*field.Path
	for _, key := range slices.Compact(keys) {
		all = append(all, differences(now[key], old[key], path.Child(key))...)
	}
	return all
}
