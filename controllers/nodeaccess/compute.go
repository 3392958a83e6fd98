package nodeaccess

import (
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/podrefs"
)

const (
	// prefix starts the user name of an agent, and the name of its rights in a
	// Namespace.
	prefix = "keelson:node:"
	// label marks what this controller wrote; it reads nothing else.
	label      = "keelson.dev/node-access"
	labelValue = "generated"
)

// access is what one agent needs in one Namespace.
type access struct {
	configMaps, secrets, tokenAccounts map[string]bool
	// certificateAccounts are those about which certificates are asked for.
	certificateAccounts map[string]bool
}

func (a access) empty() bool {
	return len(a.configMaps) == 0 && len(a.secrets) == 0 && len(a.tokenAccounts) == 0 && len(a.certificateAccounts) == 0
}

// contains says whether a allows all that b does.
func (a access) contains(b access) bool {
	covers := func(x, y map[string]bool) bool {
		for name := range y {
			if !x[name] {
				return false
			}
		}
		return true
	}
	return covers(a.configMaps, b.configMaps) && covers(a.secrets, b.secrets) && covers(a.tokenAccounts, b.tokenAccounts) &&
		covers(a.certificateAccounts, b.certificateAccounts)
}

// union is what a or b allows.
func (a access) union(b access) access {
	both := newAccess()
	for _, one := range []access{a, b} {
		maps.Copy(both.configMaps, one.configMaps)
		maps.Copy(both.secrets, one.secrets)
		maps.Copy(both.tokenAccounts, one.tokenAccounts)
		maps.Copy(both.certificateAccounts, one.certificateAccounts)
	}
	return both
}

func newAccess() access {
	return access{configMaps: map[string]bool{}, secrets: map[string]bool{}, tokenAccounts: map[string]bool{}, certificateAccounts: map[string]bool{}}
}

// computeAccess is what the agent needs for pods, which are its own. One that has ended
// needs nothing any more; one that is being deleted still runs.
func computeAccess(pods []keelsonv1.Pod) access {
	needed := newAccess()
	for i := range pods {
		if phase := pods[i].Status.Phase; phase == corev1.PodSucceeded || phase == corev1.PodFailed {
			continue
		}
		if _, mirror := pods[i].Annotations[corev1.MirrorPodAnnotationKey]; mirror {
			continue // its node made it: what it names must not become readable by that
		}
		refs := podrefs.Of(&pods[i].Spec)
		for _, name := range refs.ConfigMaps {
			needed.configMaps[name] = true
		}
		for _, name := range refs.Secrets {
			needed.secrets[name] = true
		}
		if refs.TokenAccount != "" {
			needed.tokenAccounts[refs.TokenAccount] = true
		}
		if refs.CertificateAccount != "" {
			needed.certificateAccounts[refs.CertificateAccount] = true
		}
	}
	return needed
}

// rules are the rights that make access. Reading a list or watching with a selector on
// metadata.name counts as reading the named object.
func (a access) rules() []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	add := func(resource string, names map[string]bool, verbs ...string) {
		if len(names) > 0 {
			rules = append(rules, rbacv1.PolicyRule{
				APIGroups: []string{""}, Resources: []string{resource}, ResourceNames: slices.Sorted(maps.Keys(names)), Verbs: verbs,
			})
		}
	}
	add("configmaps", a.configMaps, "get", "list", "watch")
	add("secrets", a.secrets, "get", "list", "watch")
	add("serviceaccounts/token", a.tokenAccounts, "create")
	add("serviceaccounts", a.certificateAccounts, "get")
	if len(a.certificateAccounts) > 0 { // whose certificates, admission decides
		rules = append(rules, rbacv1.PolicyRule{
			APIGroups: []string{certificatesv1.GroupName}, Resources: []string{"podcertificaterequests"}, Verbs: []string{"create"},
		})
	}
	return rules
}

// accessOf reads rules back.
func accessOf(rules []rbacv1.PolicyRule) access {
	a := newAccess()
	for _, rule := range rules {
		for _, resource := range rule.Resources {
			into := map[string]map[string]bool{"configmaps": a.configMaps, "secrets": a.secrets, "serviceaccounts/token": a.tokenAccounts, "serviceaccounts": a.certificateAccounts}[resource]
			for _, name := range rule.ResourceNames {
				if into != nil {
					into[name] = true
				}
			}
		}
	}
	return a
}

func metadata(namespace, node string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: prefix + node, Labels: map[string]string{label: labelValue}}
}

// nodeOf is the node that a name made by metadata is for.
func nodeOf(name string) (string, bool) { return strings.CutPrefix(name, prefix) }

func renderRole(namespace, node string, a access) *rbacv1.Role {
	return &rbacv1.Role{ObjectMeta: metadata(namespace, node), Rules: a.rules()}
}

func renderBinding(namespace, node string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metadata(namespace, node),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: prefix + node},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: prefix + node}},
	}
}
