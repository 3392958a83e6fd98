package daemonset

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

func TestNodesWakeWhomTheyConcern(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := appsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	on := func(name, disk string) *appsv1.DaemonSet {
		return builders.MakeDaemonSet(name).Template(func(s *corev1.PodTemplateSpec) { s.Spec.NodeSelector = map[string]string{"disk": disk} }).Obj()
	}
	tolerant := builders.MakeDaemonSet("tolerant").Template(func(s *corev1.PodTemplateSpec) {
		s.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}).Obj()
	w := watches{reader: fake.NewClientBuilder().WithScheme(scheme).
		WithObjects(builders.MakeDaemonSet("any").Obj(), on("ssd", "ssd"), on("hdd", "hdd"), tolerant).Build()}
	ssd, hdd := map[string]string{"disk": "ssd"}, map[string]string{"disk": "hdd"}
	beaten := node("n", ssd)
	beaten.Annotations = map[string]string{"beat": "1"}
	beaten.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.NewTime(now)}}
	for name, tc := range map[string]struct {
		before, after *keelsonv1.Node // nil: not there
		want          []string
	}{
		"a new node those that run on it":    {after: node("n", ssd), want: []string{"any", "ssd", "tolerant"}},
		"a node that goes the same":          {before: node("n", hdd), want: []string{"any", "hdd", "tolerant"}},
		"a heartbeat nobody":                 {before: node("n", ssd), after: beaten},
		"a label that is used":               {before: node("n", ssd), after: node("n", hdd), want: []string{"hdd", "ssd"}},
		"a label that nobody asks for":       {before: node("n", nil), after: node("n", map[string]string{"x": "y"})},
		"a taint those that mind it":         {before: node("n", ssd), after: node("n", ssd, taint("k", corev1.TaintEffectNoSchedule)), want: []string{"any", "ssd"}},
		"one that drives out, too":           {before: node("n", nil, taint("k", corev1.TaintEffectNoSchedule)), after: node("n", nil, taint("k", corev1.TaintEffectNoExecute)), want: []string{"any"}},
		"being cordoned is nothing to them":  {before: node("n", nil), after: node("n", nil, taint(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule))},
		"a node that is lost is none either": {before: node("n", nil), after: node("n", nil, taint(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute))},
	} {
		t.Run(name, func(t *testing.T) {
			q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
			defer q.ShutDown()
			switch {
			case tc.before == nil:
				w.nodes().Create(t.Context(), event.CreateEvent{Object: tc.after}, q)
			case tc.after == nil:
				w.nodes().Delete(t.Context(), event.DeleteEvent{Object: tc.before}, q)
			default:
				w.nodes().Update(t.Context(), event.UpdateEvent{ObjectOld: tc.before, ObjectNew: tc.after}, q)
			}
			var got []string
			for q.Len() > 0 {
				request, _ := q.Get()
				q.Done(request)
				got = append(got, request.Name)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("woken (-want +got):\n%s", diff)
			}
		})
	}
}
