package ownerwatch

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

const group = "apps.keelson.dev"

func pod(version, owner string) *keelsonv1.Pod {
	b := builders.MakePod("p").Label("app", "web")
	if owner != "" {
		b.Owner(group+"/v1", "DaemonSet", owner, "uid-"+owner)
	}
	p := b.Obj()
	p.ResourceVersion = version
	return p
}

func relabelled(p *keelsonv1.Pod) *keelsonv1.Pod {
	p.Labels["app"] = "other"
	return p
}

func foreign() *keelsonv1.Pod {
	return builders.MakePod("p").Owner("example.org/v1", "DaemonSet", "theirs", "uid").Obj()
}

func TestHandler(t *testing.T) {
	h := Handler(Options{
		Kind:     schema.GroupKind{Group: group, Kind: "DaemonSet"},
		Adopters: func(context.Context, client.Object) []string { return []string{"adopter"} },
		Freed:    func(context.Context, client.Object) []string { return []string{"waiting"} },
	})
	for name, tc := range map[string]struct {
		before, after *keelsonv1.Pod // nil: not there
		want          []string
	}{
		"a new Pod wakes its owner":               {after: pod("1", "a"), want: []string{"a"}},
		"an orphan those who could take it":       {after: pod("1", ""), want: []string{"adopter"}},
		"somebody else's nobody":                  {after: foreign()},
		"a change wakes the owner":                {before: pod("1", "a"), after: pod("2", "a"), want: []string{"a"}},
		"a resync nobody":                         {before: pod("1", "a"), after: pod("1", "a")},
		"a change of owners wakes both":           {before: pod("1", "a"), after: pod("2", "b"), want: []string{"a", "b"}},
		"a released Pod those who could take it":  {before: pod("1", "a"), after: pod("2", ""), want: []string{"a", "adopter"}},
		"an orphan's status nobody":               {before: pod("1", ""), after: pod("2", "")},
		"an orphan's labels do":                   {before: pod("1", ""), after: relabelled(pod("2", "")), want: []string{"adopter"}},
		"a deleted Pod wakes its owner":           {before: pod("1", "a"), want: []string{"a"}},
		"one that was not ours who waited for it": {before: foreign(), want: []string{"waiting"}},
	} {
		t.Run(name, func(t *testing.T) {
			q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
			defer q.ShutDown()
			switch {
			case tc.before == nil:
				h.Create(t.Context(), event.CreateEvent{Object: tc.after}, q)
			case tc.after == nil:
				h.Delete(t.Context(), event.DeleteEvent{Object: tc.before}, q)
			default:
				h.Update(t.Context(), event.UpdateEvent{ObjectOld: tc.before, ObjectNew: tc.after}, q)
			}
			var got []string
			for q.Len() > 0 {
				request, _ := q.Get()
				q.Done(request)
				got = append(got, request.Name)
				if request.Namespace != builders.DefaultNamespace {
					t.Errorf("namespace %q", request.Namespace)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("woken (-want +got):\n%s", diff)
			}
		})
	}
}
