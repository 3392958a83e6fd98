package support

import (
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Level is what Keelson does with a field.
type Level string

// The levels.
const (
	// Supported fields do what upstream documents.
	Supported Level = "supported"
	// Limited fields are supported for the values in Entry.Allowed.
	Limited Level = "limited"
	// Refused fields may not be set; neither may anything below them.
	Refused Level = "refused"
)

// Entry is the answer for one field.
type Entry struct {
	Level Level
	// Allowed are the values of a Limited field: of the scalar, of each element of
	// a list of scalars, or of the keys of a map.
	Allowed []string
	// Extended allows the names of extended resources, too: example.com/gpu.
	Extended bool
	// Note says what is missing (Refused, Limited), or what a reader must know.
	Note string
	// exempt lets a value pass that the entry would refuse, by the struct that
	// holds the field.
	exempt func(parent reflect.Value) bool
}

// Table holds the entries of one kind.
type Table struct {
	// Kind is the name of the kind.
	Kind string
	// Root is the field under which the entries start: spec or subsets[*]; empty for the
	// object itself.
	Root string
	// Type is the upstream type at Root.
	Type reflect.Type
	// Entries are keyed by path, with [*] for the elements of a list, such as
	// spec.containers[*].image.
	Entries map[string]Entry
}

// Tables returns every table, in the order of the documentation.
func Tables() []Table {
	return []Table{
		podTable(), replicationControllerTable(), serviceTable(), endpointsTable(), nodeTable(), limitRangeTable(), resourceQuotaTable(),
		replicaSetTable(), deploymentTable(), daemonSetTable(), statefulSetTable(), jobTable(), cronJobTable(),
		horizontalPodAutoscalerTable(), podDisruptionBudgetTable(), endpointSliceTable(), networkPolicyTable(),
	}
}

func supported() Entry { return Entry{Level: Supported} }

func noted(note string) Entry { return Entry{Level: Supported, Note: note} }

func refused(note string) Entry { return Entry{Level: Refused, Note: note} }

func only(note string, allowed ...string) Entry {
	return Entry{Level: Limited, Allowed: allowed, Note: note}
}

func (e Entry) allows(value string) bool {
	return e.Extended && isExtendedResource(value) || slices.ContainsFunc(e.Allowed, func(allowed string) bool {
		prefix, open := strings.CutSuffix(allowed, "*") // a * at the end stands for any rest
		return allowed == value || open && strings.HasPrefix(value, prefix)
	})
}

// isExtendedResource tells resources that somebody adds to nodes from those of Kubernetes.
func isExtendedResource(name string) bool {
	return strings.Contains(name, "/") && !strings.Contains(name, corev1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix)
}

// with adds the same entry for several fields below prefix.
func (t Table) with(prefix string, e Entry, names ...string) Table {
	for _, name := range names {
		t.Entries[prefix+name] = e
	}
	return t
}
