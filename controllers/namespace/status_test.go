package namespace

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/keelson-dev/keelson/controllers/internal/resources"
)

func TestConditions(t *testing.T) {
	const (
		discovery  = corev1.NamespaceDeletionDiscoveryFailure
		deletion   = corev1.NamespaceDeletionContentFailure
		remaining  = corev1.NamespaceContentRemaining
		finalizers = corev1.NamespaceFinalizersRemaining
	)
	type trouble map[corev1.NamespaceConditionType]string
	tests := map[string]struct {
		found content
		want  trouble
	}{
		"nothing left": {content{}, trouble{}},
		"objects that stay": {
			content{objects: map[string]int{"secrets.": 1, "pods.core.keelson.dev": 2}, finalizers: map[string]int{"keelson.dev/pod": 2, "a/b": 1}},
			trouble{
				remaining:  "SomeResourcesRemain: Some resources are remaining: pods.core.keelson.dev has 2 resource instances, secrets. has 1 resource instances",
				finalizers: "SomeFinalizersRemain: Some content in the namespace has finalizers remaining: a/b in 1 resource instances, keelson.dev/pod in 2 resource instances",
			},
		},
		"deletions that failed": {
			content{deletion: []error{errors.New("z"), errors.New("a")}},
			trouble{deletion: "ContentDeletionFailed: Failed to delete all resource types, 2 remaining: a, z"},
		},
		"a group that does not answer": {
			content{undiscovered: resources.UnknownError{schema.GroupVersion{Group: "g", Version: "v1"}: errors.New("down")}},
			trouble{discovery: "DiscoveryFailed: Discovery failed for some groups, 1 failing: g/v1: down"},
		},
		"a server that does not answer": {
			content{discovery: errors.New("refused")},
			trouble{discovery: "DiscoveryFailed: refused"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			conditions := computeConditions(tc.found)
			if len(conditions) != 5 {
				t.Errorf("%d conditions, want all 5", len(conditions))
			}
			got := trouble{}
			for _, c := range conditions {
				if c.Status == corev1.ConditionTrue {
					got[c.Type] = c.Reason + ": " + c.Message
				} else if c.Status != corev1.ConditionFalse {
					t.Errorf("%s is %q", c.Type, c.Status)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("trouble (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConditionsChangeOnlyWithNews(t *testing.T) {
	status := &corev1.NamespaceStatus{Conditions: []corev1.NamespaceCondition{{Type: "Other"}}}
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	held := content{objects: map[string]int{"pods.": 2}}
	if !setConditions(status, computeConditions(held), early) || len(status.Conditions) != 6 {
		t.Fatalf("first round: %v", status.Conditions)
	}
	if setConditions(status, computeConditions(held), late) {
		t.Error("the same again counts as news")
	}
	if !setConditions(status, computeConditions(content{objects: map[string]int{"pods.": 1}}), late) {
		t.Error("a new count is no news")
	}
	for _, c := range status.Conditions[1:] {
		if !c.LastTransitionTime.Equal(new(metav1.NewTime(early))) {
			t.Errorf("%s: the transition time moved without a transition", c.Type)
		}
	}
	if !setConditions(status, computeConditions(content{}), late) {
		t.Error("an empty namespace is no news")
	}
}

func TestErrIsNeverLost(t *testing.T) {
	if err := (content{}).err(); err != nil {
		t.Errorf("an empty round has error %v", err)
	}
	for name, found := range map[string]content{
		"discovery": {discovery: errors.New("x")},
		"a group":   {undiscovered: resources.UnknownError{schema.GroupVersion{Group: "g"}: errors.New("x")}},
		"deletion":  {deletion: []error{errors.New("x")}},
	} {
		if found.err() == nil {
			t.Errorf("%s: no error, so the namespace would be let go", name)
		}
	}
}

func TestPodsGoFirst(t *testing.T) {
	kind := func(group, resource, kind string, namespaced bool, verbs ...string) resources.Resource {
		return resources.New(schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}, kind, namespaced, verbs...)
	}
	first, rest := planOrder([]resources.Resource{
		kind("", "secrets", "Secret", true, "list", "delete"),
		kind("core.keelson.dev", "pods", "Pod", true, "list", "delete"),
		kind("", "nodes", "Node", false, "list", "delete"),
		kind("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", true, "create"),
		kind("", "pods", "Pod", true, "list", "delete"),
	})
	names := func(of []resources.Resource) (all []string) {
		for _, r := range of {
			all = append(all, name(r))
		}
		return all
	}
	if diff := cmp.Diff([]string{"pods.core.keelson.dev", "pods."}, names(first)); diff != "" {
		t.Errorf("first (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"secrets."}, names(rest)); diff != "" {
		t.Errorf("rest (-want +got):\n%s", diff)
	}
}
