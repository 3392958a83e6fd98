// Package podautoscaler_test runs the controller of HorizontalPodAutoscalers against a
// real API server: what the scale subresource and the schema of the status make of it.
package podautoscaler_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/podautoscaler"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

// busy is what every Pod uses of CPU, in thousandths.
type busy struct {
	each int64
	at   func() time.Time
}

func (b *busy) PodMetrics(_ context.Context, pods []*keelsonv1.Pod) ([]metricsv1beta1.PodMetrics, error) {
	var all []metricsv1beta1.PodMetrics
	for _, pod := range pods {
		all = append(all, metricsv1beta1.PodMetrics{ObjectMeta: metav1.ObjectMeta{Name: pod.Name}, Timestamp: metav1.NewTime(b.at()),
			Containers: []metricsv1beta1.ContainerMetrics{{Name: "c", Usage: corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(b.each, resource.DecimalSI)}}}})
	}
	return all, nil
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
	}}}}
}

// TestScalesAStoredDeployment: through the scale of the custom resource, by upstream's
// name of its group as well, and with a status that the API server takes.
func TestScalesAStoredDeployment(t *testing.T) {
	ctx, c := t.Context(), testEnv.Client
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "autoscaler-"}}
	create(ctx, t, namespace)
	labels := map[string]string{"app": "web"}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "web"}}
	deployment.Spec.Replicas = new(int32(2))
	deployment.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	deployment.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec()}
	create(ctx, t, deployment)
	deployment.Status.Replicas = 2
	deployment.Status.Summary = summary.Deployment(deployment)
	if err := c.Status().Update(ctx, deployment); err != nil {
		t.Fatal(err)
	}
	started := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	for i := range 2 {
		pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: fmt.Sprintf("web-%d", i), Labels: labels}, Spec: podSpec()}
		create(ctx, t, pod)
		pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, &started
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: started}}
		if err := c.Status().Update(ctx, pod); err != nil {
			t.Fatal(err)
		}
	}
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "web"}}
	hpa.Spec.ScaleTargetRef = upstreamautoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}
	hpa.Spec.MaxReplicas = 5
	create(ctx, t, hpa)

	clock := testingclock.NewFakePassiveClock(time.Now().Truncate(time.Second))
	metrics := &busy{each: 160, at: clock.Now}
	r := podautoscaler.NewReconciler(c, events.NewFakeRecorder(100), podautoscaler.Options{Resources: metrics, Clock: clock})
	reconcile := func() {
		t.Helper()
		if _, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(hpa)}); err != nil {
			t.Fatal(err)
		}
		for _, object := range []client.Object{hpa, deployment} {
			if err := c.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
				t.Fatal(err)
			}
		}
	}
	reconcile() // 160 % of the request, where 80 % are wanted
	if *deployment.Spec.Replicas != 4 {
		t.Fatalf("scaled to %d", *deployment.Spec.Replicas)
	}
	s := hpa.Status
	if s.ObservedGeneration == nil || *s.ObservedGeneration != hpa.Generation || s.CurrentReplicas != 2 || s.DesiredReplicas != 4 || s.LastScaleTime == nil || len(s.Conditions) != 4 {
		t.Errorf("status %+v", s)
	}
	if len(s.CurrentMetrics) != 1 || s.CurrentMetrics[0].Resource == nil || *s.CurrentMetrics[0].Resource.Current.AverageUtilization != 160 {
		t.Errorf("metrics %+v", s.CurrentMetrics)
	}
	if s.Summary.Reference != "Deployment/web" || s.Summary.MinPods != "<unset>" || s.Summary.Replicas != 2 {
		t.Errorf("columns %+v", s.Summary)
	}

	// A new process finds four, and waits a whole window before it takes any away.
	metrics.each = 1
	r = podautoscaler.NewReconciler(c, events.NewFakeRecorder(100), podautoscaler.Options{Resources: metrics, Clock: clock})
	reconcile()
	if *deployment.Spec.Replicas != 4 {
		t.Errorf("scaled to %d at once", *deployment.Spec.Replicas)
	}
	version := hpa.ResourceVersion
	clock.SetTime(clock.Now().Add(15 * time.Second))
	reconcile()
	if hpa.ResourceVersion != version {
		t.Error("wrote a status that did not change")
	}
	clock.SetTime(clock.Now().Add(6 * time.Minute))
	reconcile()
	if *deployment.Spec.Replicas != 1 {
		t.Errorf("scaled to %d after the window", *deployment.Spec.Replicas)
	}
}

func create(ctx context.Context, t *testing.T, object client.Object) {
	t.Helper()
	if err := testEnv.Client.Create(ctx, object); err != nil {
		t.Fatalf("create %T: %v", object, err)
	}
}
