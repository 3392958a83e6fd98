package history

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/test/builders"
)

const hashLabel = "hash"

var kind = appsv1.GroupVersion.WithKind("DaemonSet")

func template(image string) *corev1.PodTemplateSpec {
	return &builders.MakeDaemonSet("d").Template(func(s *corev1.PodTemplateSpec) { s.Spec.Containers[0].Image = image }).Obj().Spec.Template
}

func data(t *testing.T, image string) []byte {
	t.Helper()
	raw, err := Data(template(image))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// revision is one of the DaemonSet d with the UID "d-uid".
func revision(t *testing.T, name, image string, number int64) *appsv1.ControllerRevision {
	t.Helper()
	r := &appsv1.ControllerRevision{Revision: number}
	r.Name, r.Namespace, r.UID = name, builders.DefaultNamespace, types.UID("uid-"+name)
	r.Labels = map[string]string{"app": "d", hashLabel: "hash-" + name}
	r.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(builders.MakeDaemonSet("d").UID("d-uid").Obj(), kind)}
	r.Data.Raw = data(t, image)
	return r
}

func names(revisions []*appsv1.ControllerRevision) []string {
	var out []string
	for _, r := range revisions {
		out = append(out, r.Name)
	}
	return out
}

func TestPlan(t *testing.T) {
	type result struct {
		Latest       string
		Number       int64
		Same, Others []string
	}
	for name, tc := range map[string]struct {
		revisions []*appsv1.ControllerRevision
		want      result
	}{
		"none yet": {want: result{Number: 1}},
		"the present one is there": {
			revisions: []*appsv1.ControllerRevision{revision(t, "b", "now", 2), revision(t, "a", "then", 1)},
			want:      result{Latest: "b", Number: 2, Others: []string{"a"}}},
		"a new template": {
			revisions: []*appsv1.ControllerRevision{revision(t, "b", "x", 7), revision(t, "a", "y", 3)},
			want:      result{Number: 8, Others: []string{"a", "b"}}},
		"back to an old template": {
			revisions: []*appsv1.ControllerRevision{revision(t, "b", "x", 2), revision(t, "a", "now", 1)},
			want:      result{Latest: "a", Number: 3, Others: []string{"b"}}},
		"a gap in the numbers stays": {
			revisions: []*appsv1.ControllerRevision{revision(t, "a", "now", 9), revision(t, "b", "x", 2)},
			want:      result{Latest: "a", Number: 9, Others: []string{"b"}}},
		"two of one template: the later one counts": {
			revisions: []*appsv1.ControllerRevision{revision(t, "b", "now", 2), revision(t, "a", "now", 1), revision(t, "c", "x", 5)},
			want:      result{Latest: "b", Number: 6, Same: []string{"a"}, Others: []string{"c"}}},
		"two of one number: the names decide": {
			revisions: []*appsv1.ControllerRevision{revision(t, "b", "now", 1), revision(t, "a", "x", 1)},
			want:      result{Latest: "b", Number: 2, Others: []string{"a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := MakePlan(data(t, "now"), tc.revisions)
			got := result{Number: p.Number, Same: names(p.Same), Others: names(p.Others)}
			if p.Latest != nil {
				got.Latest = p.Latest.Name
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	orphan := revision(t, "orphan", "x", 1)
	orphan.OwnerReferences = nil
	stranger := revision(t, "stranger", "x", 1)
	stranger.OwnerReferences[0].UID = "other"
	unlike := revision(t, "unlike", "x", 1)
	unlike.Labels = map[string]string{"app": "e"}
	going := revision(t, "going", "x", 1)
	going.DeletionTimestamp = new(metav1.NewTime(time.Unix(1, 0)))
	mine := revision(t, "mine", "x", 1)
	all := []*appsv1.ControllerRevision{orphan, stranger, unlike, going, mine}

	ds := builders.MakeDaemonSet("d").UID("d-uid").Obj()
	selector := labels.SelectorFromSet(labels.Set{"app": "d"})
	type result struct{ Mine, Adopt, Release []string }
	claim := func() result {
		c := PlanClaims(podcontrol.Owner{Object: ds, Kind: kind}, selector, all)
		return result{names(c.Mine), names(c.Adopt), names(c.Release)}
	}
	if diff := cmp.Diff(result{[]string{"mine"}, []string{"orphan"}, []string{"unlike"}}, claim()); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	ds.DeletionTimestamp = new(metav1.NewTime(time.Unix(1, 0)))
	if diff := cmp.Diff(result{Mine: []string{"mine"}}, claim()); diff != "" {
		t.Errorf("claims of one that is being deleted (-want +got):\n%s", diff)
	}
}

func TestExcess(t *testing.T) {
	all := []*appsv1.ControllerRevision{revision(t, "c", "c", 3), revision(t, "a", "a", 1), revision(t, "d", "d", 4), revision(t, "b", "b", 2)}
	live := func(r *appsv1.ControllerRevision) bool { return r.Name == "a" || r.Name == "d" }
	for name, tc := range map[string]struct {
		keep int
		want []string
	}{
		"none kept":             {keep: 0, want: []string{"b", "c"}},
		"the newest kept":       {keep: 1, want: []string{"b"}},
		"room for all":          {keep: 2},
		"more room than needed": {keep: 5},
		"negative keeps all":    {keep: -1},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, names(Excess(all, live, tc.keep))); diff != "" {
				t.Errorf("excess (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIsLatest(t *testing.T) {
	h := &History{
		Latest: revision(t, "latest", "now", 3), Others: []*appsv1.ControllerRevision{revision(t, "other", "x", 1)},
		same: []*appsv1.ControllerRevision{revision(t, "twin", "now", 2)}, hashLabel: hashLabel, expected: "computed",
	}
	bare := revision(t, "bare", "now", 2)
	delete(bare.Labels, hashLabel)
	h.same = append(h.same, bare)
	for hash, want := range map[string]bool{
		"hash-latest": true, "hash-twin": true, "bare": true, "hash-other": false, "": false, "else": false,
		// Somebody deleted the revision that Pods were made from.
		"computed": true,
	} {
		if got := h.IsLatest(hash); got != want {
			t.Errorf("IsLatest(%q) = %v, want %v", hash, got, want)
		}
	}
	h.expected = "hash-other"
	if h.IsLatest("hash-other") {
		t.Error("a collision makes an old Pod look new")
	}
}

func TestEqual(t *testing.T) {
	for name, tc := range map[string]struct {
		a, b string
		want bool
	}{
		"the same bytes":                 {a: `{"x":1}`, b: `{"x":1}`, want: true},
		"order and empty fields":         {a: `{"spec":{"template":{"metadata":{"creationTimestamp":null,"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","resources":{}}]}}}}`, b: `{"spec":{"template":{"$patch":"replace","spec":{"containers":[{"image":"i","name":"c"}]},"metadata":{"labels":{"a":"b"}}}}}`, want: true},
		"a quantity written otherwise":   {a: `{"spec":{"template":{"spec":{"overhead":{"cpu":"1000m"}}}}}`, b: `{"spec":{"template":{"spec":{"overhead":{"cpu":"1"}}}}}`, want: true},
		"another image":                  {a: `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i"}]}}}}`, b: `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"j"}]}}}}`},
		"no template equals none":        {a: `{"spec":{}}`, b: `{"spec":{"template":{}}}`},
		"what is no JSON equals nothing": {a: `{`, b: `{"spec":{"template":{}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			if Equal([]byte(tc.a), []byte(tc.b)) != tc.want || Equal([]byte(tc.b), []byte(tc.a)) != tc.want {
				t.Errorf("want %v", tc.want)
			}
		})
	}
}

func TestDataAndBack(t *testing.T) {
	original := template("<i>&")
	original.Spec.TerminationGracePeriodSeconds = new(int64(1 << 53))
	original.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1500m")}
	raw, err := Data(original)
	if err != nil {
		t.Fatal(err)
	}
	r := revision(t, "r", "x", 1)
	r.Data.Raw = raw
	got, err := Template(r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(original, got); diff != "" {
		t.Errorf("template (-want +got):\n%s", diff)
	}
	again, err := Data(got)
	if err != nil || string(again) != string(raw) {
		t.Errorf("the data of one template differ: %s, then %s (%v)", raw, again, err)
	}
	r.Data.Raw = []byte(`{"spec":{}}`)
	if _, err := Template(r); err == nil {
		t.Error("data without a template give one")
	}
}

func TestHash(t *testing.T) {
	a, b := data(t, "a"), data(t, "b")
	hashes := map[string]bool{Hash(a, nil): true, Hash(a, new(int32(1))): true, Hash(a, new(int32(2))): true, Hash(b, nil): true}
	if len(hashes) != 4 {
		t.Errorf("hashes %v: some are equal", hashes)
	}
	if Hash(a, nil) != Hash(a, new(int32(0))) {
		t.Error("a collision count of 0 changes the hash")
	}
}
