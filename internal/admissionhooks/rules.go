package admissionhooks

import (
	"cmp"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/keelson-dev/keelson/gateway/table"
)

// Point is one thing that hooks can be called for: an operation on a resource of the
// gateway's table, under its plain name, or on a subresource of it.
type Point struct {
	Operation   admissionregistrationv1.OperationType
	Resource    schema.GroupResource
	Subresource string
}

// reach says who sees a request for a point.
type reach int

const (
	// direct: the API server has the same operation on the stored resource.
	direct reach = iota
	// asUpdate: it is stored as an update of the object itself.
	asUpdate
	// gatewayOnly: the API server has nothing of the kind.
	gatewayOnly
)

// Side is where requests are seen.
type Side int

const (
	// InAPIServer: what is written to the stored kinds, whoever writes.
	InAPIServer Side = iota
	// InGateway: what only a gateway sees as such, that is connections, evictions and the
	// bindings that clients ask for.
	InGateway
)

// binding is seen on both sides: a scheduler writes it itself.
const binding = "binding"

func (s Side) sees(k known) bool {
	if s == InGateway {
		return k.reach == gatewayOnly || k.Subresource == binding
	}
	return k.reach != gatewayOnly
}

// known is a point with what must be known to match rules with it.
type known struct {
	Point
	row   table.Row
	reach reach
}

// knownPoints lists every point of a table that a side sees.
func knownPoints(rows []table.Row, side Side) []known {
	var all []known
	for _, row := range rows {
		add := func(operation admissionregistrationv1.OperationType, subresource string, reach reach) {
			k := known{Point: Point{operation, row.Upstream.GroupResource(), subresource}, row: row, reach: reach}
			if side.sees(k) {
				all = append(all, k)
			}
		}
		add(admissionregistrationv1.Create, "", direct)
		add(admissionregistrationv1.Update, "", direct)
		add(admissionregistrationv1.Delete, "", direct)
		if row.Status {
			add(admissionregistrationv1.Update, "status", direct)
		}
		if row.Scale {
			add(admissionregistrationv1.Update, "scale", direct)
		}
		switch row.Upstream.GroupResource() {
		case pods:
			for _, subresource := range []string{"ephemeralcontainers", "resize"} {
				add(admissionregistrationv1.Update, subresource, asUpdate)
			}
			add(admissionregistrationv1.Create, binding, asUpdate)
			add(admissionregistrationv1.Create, "eviction", gatewayOnly)
			for _, subresource := range []string{"exec", "attach", "portforward", "proxy"} {
				add(admissionregistrationv1.Connect, subresource, gatewayOnly)
			}
		case services, nodes:
			add(admissionregistrationv1.Connect, "proxy", gatewayOnly)
		}
	}
	return all
}

var (
	pods     = schema.GroupResource{Resource: "pods"}
	services = schema.GroupResource{Resource: "services"}
	nodes    = schema.GroupResource{Resource: "nodes"}
)

// ours says that rule is for this package to follow at a point: it names the plain group,
// or nobody else can see the request.
func (k known) ours(rule *admissionregistrationv1.Rule, operations []admissionregistrationv1.OperationType) bool {
	if k.reach != gatewayOnly && slices.Contains(rule.APIGroups, "*") {
		return false
	}
	return k.matches(rule, operations, k.row.Upstream)
}

// theirs says that the API server follows rule at a point by itself.
func (k known) theirs(rule *admissionregistrationv1.Rule, operations []admissionregistrationv1.OperationType) bool {
	return k.reach == direct && k.matches(rule, operations, k.row.Stored)
}

func (k known) matches(rule *admissionregistrationv1.Rule, operations []admissionregistrationv1.OperationType, resource schema.GroupVersionResource) bool {
	return (slices.Contains(operations, k.Operation) || slices.Contains(operations, admissionregistrationv1.OperationAll)) &&
		anyOrOneOf(rule.APIGroups, resource.Group) &&
		k.hasVersion(rule.APIVersions, resource.Version) &&
		slices.ContainsFunc(rule.Resources, func(pattern string) bool {
			name, subresource, _ := strings.Cut(pattern, "/")
			return (name == "*" || name == resource.Resource) && (subresource == "*" || subresource == k.Subresource)
		}) &&
		k.inScope(rule.Scope)
}

// hasVersion: a rule may name an older version; the plug-ins decide by its matchPolicy.
func (k known) hasVersion(versions []string, version string) bool {
	return anyOrOneOf(versions, version) || slices.ContainsFunc(k.row.OlderVersions, func(older string) bool { return slices.Contains(versions, older) })
}

func (k known) inScope(scope *admissionregistrationv1.ScopeType) bool {
	switch {
	case scope == nil || *scope == admissionregistrationv1.AllScopes:
		return true
	case *scope == admissionregistrationv1.NamespacedScope:
		return k.row.Namespaced
	case *scope == admissionregistrationv1.ClusterScope:
		return !k.row.Namespaced
	}
	return false
}

func anyOrOneOf(items []string, requested string) bool {
	return slices.Contains(items, "*") || slices.Contains(items, requested)
}

// ruleSet is the rules of one hook.
type ruleSet []admissionregistrationv1.RuleWithOperations

// narrow returns, for each rule, the rules that are left of it for this package, and the
// points that they cover.
func (rules ruleSet) narrow(all []known) (left []ruleSet, covered []Point) {
	left = make([]ruleSet, len(rules))
	for i := range rules {
		var mine []known
		for _, k := range all {
			if k.ours(&rules[i].Rule, rules[i].Operations) && !rules.theirs(k) {
				mine = append(mine, k)
				covered = append(covered, k.Point)
			}
		}
		left[i] = rulesFor(mine, rules[i].APIVersions)
	}
	return left, covered
}

func (rules ruleSet) theirs(k known) bool {
	return slices.ContainsFunc(rules, func(rule admissionregistrationv1.RuleWithOperations) bool {
		return k.theirs(&rule.Rule, rule.Operations)
	})
}

// rulesFor writes points as rules, one for each operation and group.
func rulesFor(points []known, versions []string) ruleSet {
	type key struct {
		operation admissionregistrationv1.OperationType
		group     string
	}
	resources := map[key][]string{}
	for _, k := range points {
		at := key{k.Operation, k.Resource.Group}
		resources[at] = append(resources[at], pattern(k.Resource.Resource, k.Subresource))
	}
	var rules ruleSet
	for at, patterns := range resources {
		rules = append(rules, admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{at.operation},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{at.group}, APIVersions: versions, Resources: patterns},
		})
	}
	slices.SortFunc(rules, func(a, b admissionregistrationv1.RuleWithOperations) int {
		return cmp.Or(cmp.Compare(a.APIGroups[0], b.APIGroups[0]), cmp.Compare(a.Operations[0], b.Operations[0]))
	})
	return rules
}

func pattern(resource, subresource string) string {
	if subresource == "" {
		return resource
	}
	return resource + "/" + subresource
}

// RegistrationRules are the rules, on stored names, by which the API server calls for
// every point of a set that it can see.
func RegistrationRules(rows *table.Table, points map[Point]bool) []admissionregistrationv1.RuleWithOperations {
	type key struct {
		operation     admissionregistrationv1.OperationType
		groupResource string
		pattern       string
	}
	seen := map[key]bool{}
	byOperation := map[admissionregistrationv1.OperationType]map[schema.GroupVersion][]string{}
	for _, k := range knownPoints(rows.Rows(), InAPIServer) {
		if !points[k.Point] {
			continue
		}
		operation, name := k.Operation, pattern(k.Resource.Resource, k.Subresource)
		if k.reach == asUpdate {
			operation, name = admissionregistrationv1.Update, k.Resource.Resource
		}
		at := key{operation, k.Resource.String(), name}
		if seen[at] {
			continue
		}
		seen[at] = true
		if byOperation[operation] == nil {
			byOperation[operation] = map[schema.GroupVersion][]string{}
		}
		gv := k.row.Stored.GroupVersion()
		byOperation[operation][gv] = append(byOperation[operation][gv], name)
	}
	return registration(byOperation)
}

func registration(byOperation map[admissionregistrationv1.OperationType]map[schema.GroupVersion][]string) []admissionregistrationv1.RuleWithOperations {
	var rules []admissionregistrationv1.RuleWithOperations
	for operation, groups := range byOperation {
		for gv, resources := range groups {
			slices.Sort(resources)
			rules = append(rules, admissionregistrationv1.RuleWithOperations{
				Operations: []admissionregistrationv1.OperationType{operation},
				Rule: admissionregistrationv1.Rule{
					APIGroups: []string{gv.Group}, APIVersions: []string{gv.Version}, Resources: resources,
					Scope: new(admissionregistrationv1.AllScopes),
				},
			})
		}
	}
	slices.SortFunc(rules, func(a, b admissionregistrationv1.RuleWithOperations) int {
		return cmp.Or(cmp.Compare(a.APIGroups[0], b.APIGroups[0]), cmp.Compare(a.Operations[0], b.Operations[0]))
	})
	return rules
}
