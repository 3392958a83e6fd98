package history

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// Claims are what an owner makes of the revisions that it could have.
type Claims struct {
	// Mine are the revisions that the owner has; those in Adopt are not among them.
	Mine []*appsv1.ControllerRevision
	// Adopt are revisions without a controller that the selector matches.
	Adopt []*appsv1.ControllerRevision
	// Release are revisions of the owner that the selector does not match.
	Release []*appsv1.ControllerRevision
}

// PlanClaims decides. revisions are those of List.
func PlanClaims(owner podcontrol.Owner, selector labels.Selector, revisions []*appsv1.ControllerRevision) Claims {
	var claims Claims
	for _, revision := range revisions {
		matches := selector.Matches(labels.Set(revision.Labels))
		controller := metav1.GetControllerOfNoCopy(revision)
		switch {
		case revision.DeletionTimestamp != nil:
			// On its way out: neither a name to count on nor one to keep.
		case controller == nil && matches && !owner.Deleting():
			claims.Adopt = append(claims.Adopt, revision)
		case controller == nil || controller.UID != owner.Object.GetUID():
			// Not ours.
		case matches:
			claims.Mine = append(claims.Mine, revision)
		case !owner.Deleting():
			claims.Release = append(claims.Release, revision)
		}
	}
	return claims
}

// Plan is what has to become of an owner's revisions.
type Plan struct {
	// Latest is the newest revision of the present template; nil when there is none yet.
	Latest *appsv1.ControllerRevision
	// Number is the revision number that Latest must have: higher than every other one.
	Number int64
	// Same are further revisions of the present template, Others those of other ones;
	// the oldest comes first.
	Same, Others []*appsv1.ControllerRevision
}

// MakePlan decides for a template (as Data has it) and the owner's revisions.
func MakePlan(data []byte, revisions []*appsv1.ControllerRevision) Plan {
	var plan Plan
	for _, revision := range slices.SortedFunc(slices.Values(revisions), byAge) {
		if !Equal(revision.Data.Raw, data) {
			plan.Others = append(plan.Others, revision)
			plan.Number = max(plan.Number, revision.Revision)
			continue
		}
		if plan.Latest != nil {
			plan.Same = append(plan.Same, plan.Latest)
		}
		plan.Latest = revision
	}
	plan.Number++
	if plan.Latest != nil {
		// Going back to an old template makes its revision the newest.
		plan.Number = max(plan.Number, plan.Latest.Revision)
	}
	return plan
}

func byAge(a, b *appsv1.ControllerRevision) int {
	return cmp.Or(
		cmp.Compare(a.Revision, b.Revision),
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		cmp.Compare(a.Name, b.Name),
	)
}

// Excess returns the oldest of revisions, oldest first, that nobody needs beyond the
// newest keep; live says whose template is in use. A negative keep keeps all.
func Excess(revisions []*appsv1.ControllerRevision, live func(*appsv1.ControllerRevision) bool, keep int) []*appsv1.ControllerRevision {
	if keep < 0 {
		return nil
	}
	var idle []*appsv1.ControllerRevision
	for _, revision := range slices.SortedFunc(slices.Values(revisions), byAge) {
		if !live(revision) {
			idle = append(idle, revision)
		}
	}
	return idle[:max(0, len(idle)-keep)]
}

// History is the revisions of one owner, after Sync.
type History struct {
	// Latest is the revision of the present template.
	Latest *appsv1.ControllerRevision
	// Others are revisions of other templates, the oldest first.
	Others []*appsv1.ControllerRevision
	// CollisionCount is what status.collisionCount has to become.
	CollisionCount *int32

	same      []*appsv1.ControllerRevision
	hashLabel string
	// expected is the hash that a revision of the present template would get.
	expected string
}

// Old returns all revisions but the latest, the oldest first.
func (h *History) Old() []*appsv1.ControllerRevision {
	return slices.SortedFunc(slices.Values(slices.Concat(h.Others, h.same)), byAge)
}

// All returns all revisions, the oldest first.
func (h *History) All() []*appsv1.ControllerRevision { return append(h.Old(), h.Latest) }

// Find returns the revision with a name, nil if there is none.
func (h *History) Find(name string) *appsv1.ControllerRevision {
	all := h.All()
	at := slices.IndexFunc(all, func(r *appsv1.ControllerRevision) bool { return r.Name == name })
	if at < 0 {
		return nil
	}
	return all[at]
}

// HashOf returns the hash of one of the revisions: its label, or its name where
// somebody has taken the label away.
func (h *History) HashOf(revision *appsv1.ControllerRevision) string {
	if hash := revision.Labels[h.hashLabel]; hash != "" {
		return hash
	}
	return revision.Name
}

// IsLatest says whether hash, read from a Pod, stands for the present template: it is
// the hash of a revision of it, or the one that such a revision would have had if
// nobody had deleted it.
func (h *History) IsLatest(hash string) bool {
	has := func(revisions []*appsv1.ControllerRevision) bool {
		return slices.ContainsFunc(revisions, func(r *appsv1.ControllerRevision) bool { return h.HashOf(r) == hash })
	}
	if hash == "" || has(h.Others) {
		return false
	}
	return hash == h.expected || h.HashOf(h.Latest) == hash || has(h.same)
}
