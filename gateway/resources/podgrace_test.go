package resources

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func bound(grace int64, options ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "u", ResourceVersion: "7", Finalizers: []string{"other/one", keelsonv1.PodFinalizer}},
		Spec:       corev1.PodSpec{NodeName: "n", TerminationGracePeriodSeconds: &grace},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, option := range options {
		option(pod)
	}
	return pod
}

func unbound(pod *corev1.Pod) { pod.Spec.NodeName = "" }

func phase(p corev1.PodPhase) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Status.Phase = p }
}

func deleting(pod *corev1.Pod) {
	pod.DeletionTimestamp = new(metav1.NewTime(time.Unix(1000, 0)))
}

func annotated(value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{keelsonv1.DeletionGracePeriodAnnotation: value}
	}
}

func TestPlanPodDeletion(t *testing.T) {
	now := podDeletion{now: true, grace: new(int64(0))}
	tests := map[string]struct {
		pod   *corev1.Pod
		asked *int64
		want  podDeletion
	}{
		"without a period the spec's counts":                   {bound(30), nil, podDeletion{}},
		"a shorter period goes into the annotation":            {bound(30), new(int64(5)), podDeletion{grace: new(int64(5))}},
		"a longer one than the spec's is the spec's":           {bound(30), new(int64(60)), podDeletion{}},
		"zero is at once":                                      {bound(30), new(int64(0)), now},
		"a negative one is a second":                           {bound(30), new(int64(-1)), podDeletion{grace: new(int64(1))}},
		"a spec without grace is at once":                      {bound(0), nil, now},
		"a negative spec is a second":                          {bound(-3), nil, podDeletion{}},
		"nobody has to stop a Pod without a node":              {bound(30, unbound), new(int64(20)), now},
		"nor one that has ended":                               {bound(30, phase(corev1.PodSucceeded)), nil, now},
		"nor one that has failed":                              {bound(30, phase(corev1.PodFailed)), nil, now},
		"the annotation of a deletion that never came goes":    {bound(30, annotated("2")), nil, podDeletion{}},
		"a second deletion leaves the first alone":             {bound(30, deleting), nil, podDeletion{pending: true}},
		"even with a longer period":                            {bound(30, deleting, annotated("5")), new(int64(6)), podDeletion{pending: true, grace: new(int64(5))}},
		"a shorter one shortens it":                            {bound(30, deleting, annotated("5")), new(int64(2)), podDeletion{grace: new(int64(2))}},
		"and zero ends it":                                     {bound(30, deleting), new(int64(0)), now},
		"a deletion whose grace is over is finished":           {bound(30, deleting, annotated("0")), nil, now},
		"an annotation that is no number counts as absent":     {bound(30, deleting, annotated("soon")), new(int64(29)), podDeletion{grace: new(int64(29))}},
		"one that lacks a node waits for finalizers of others": {bound(30, deleting, unbound), nil, now},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := planPodDeletion(test.pod, test.asked)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(podDeletion{})); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnnotationPatchSaysNothingWhereNothingChanges(t *testing.T) {
	if patch := (podDeletion{grace: new(int64(5))}).annotationPatch(bound(30, annotated("5"))); patch != nil {
		t.Errorf("patch of an equal grace: %v", patch)
	}
	if patch := (podDeletion{}).annotationPatch(bound(30)); patch != nil {
		t.Errorf("patch without any grace: %v", patch)
	}
	want := map[string]any{"metadata": map[string]any{"uid": "u", "resourceVersion": "7",
		"annotations": map[string]any{keelsonv1.DeletionGracePeriodAnnotation: nil}}}
	if diff := cmp.Diff(want, (podDeletion{}).annotationPatch(bound(30, annotated("5")))); diff != "" {
		t.Errorf("patch that removes (-want +got):\n%s", diff)
	}
}

func TestReleasePatchTakesOurFinalizerOnly(t *testing.T) {
	want := map[string]any{"metadata": map[string]any{"uid": "u", "resourceVersion": "7", "finalizers": []string{"other/one"},
		"annotations": map[string]any{keelsonv1.DeletionGracePeriodAnnotation: "0"}}}
	if diff := cmp.Diff(want, releasePatch(bound(30))); diff != "" {
		t.Errorf("patch (-want +got):\n%s", diff)
	}
	free := bound(30, func(p *corev1.Pod) { p.Finalizers = []string{"other/one"} })
	if patch := releasePatch(free); patch != nil {
		t.Errorf("patch of a Pod without our finalizer: %v", patch)
	}
}

func TestCheckPreconditions(t *testing.T) {
	pod := bound(30)
	tests := map[string]struct {
		preconditions *metav1.Preconditions
		want          string
	}{
		"none":              {nil, ""},
		"what is there":     {&metav1.Preconditions{UID: new(types.UID("u")), ResourceVersion: new("7")}, ""},
		"another UID":       {&metav1.Preconditions{UID: new(types.UID("v"))}, `Operation cannot be fulfilled on Pod "a": the UID in the precondition (v) does not match the UID in record (u). The object might have been deleted and then recreated`},
		"another version":   {&metav1.Preconditions{ResourceVersion: new("6")}, `Operation cannot be fulfilled on Pod "a": the ResourceVersion in the precondition (6) does not match the ResourceVersion in record (7). The object might have been modified`},
		"an empty UID, too": {&metav1.Preconditions{UID: new(types.UID(""))}, `Operation cannot be fulfilled on Pod "a": the UID in the precondition () does not match the UID in record (u). The object might have been deleted and then recreated`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := checkPreconditions(pod, test.preconditions)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.want || (err != nil && !apierrors.IsConflict(err)) {
				t.Errorf("got %q, want the conflict %q", got, test.want)
			}
		})
	}
}
