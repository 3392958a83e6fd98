package podautoscaler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// cluster is an API server with one scale, and metrics that the test sets.
type cluster struct {
	t      *testing.T
	client client.WithWatch
	clock  *testingclock.FakePassiveClock
	r      *Reconciler
	events chan string

	scale     autoscalingv1.Scale
	conflicts int
	writes    int
	// each is the CPU that each Pod uses, in thousandths; external a metric.
	each     int64
	eachErr  error
	external int64
	extErr   error
}

func newCluster(t *testing.T, replicas int32, hpa *autoscalingv2.HorizontalPodAutoscaler) *cluster {
	t.Helper()
	c := &cluster{t: t, clock: testingclock.NewFakePassiveClock(noon), each: 1000}
	c.scale.Spec.Replicas, c.scale.Status.Replicas, c.scale.Status.Selector = replicas, replicas, "app=web"
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, appsv1.AddToScheme, autoscalingv2.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{appsv1.GroupVersion, {Group: "example.com", Version: "v1"}})
	mapper.Add(appsv1.GroupVersion.WithKind("Deployment"), meta.RESTScopeNamespace)
	mapper.Add(schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Everywhere"}, meta.RESTScopeRoot)
	c.client = fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(mapper).WithObjects(hpa).WithStatusSubresource(hpa).
		WithInterceptorFuncs(interceptor.Funcs{SubResourceGet: c.getScale, SubResourceUpdate: c.updateScale, SubResourcePatch: c.patchStatus}).Build()
	recorder := events.NewFakeRecorder(100)
	c.events = recorder.Events
	c.r = NewReconciler(c.client, recorder, Options{Resources: c, Custom: c, Clock: c.clock})
	c.run(replicas)
	return c
}

func (c *cluster) getScale(_ context.Context, _ client.Client, _ string, object, into client.Object, _ ...client.SubResourceGetOption) error {
	if object.GetName() != "web" {
		return apierrors.NewNotFound(schema.GroupResource{Group: appsv1.GroupName, Resource: "deployments"}, object.GetName())
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&c.scale)
	into.(*unstructured.Unstructured).Object = content
	return err
}

func (c *cluster) updateScale(_ context.Context, _ client.Client, _ string, _ client.Object, options ...client.SubResourceUpdateOption) error {
	if c.conflicts > 0 {
		c.conflicts--
		return apierrors.NewConflict(schema.GroupResource{Resource: "deployments"}, "web", errors.New("it was modified"))
	}
	o := &client.SubResourceUpdateOptions{}
	o.ApplyOptions(options)
	return runtime.DefaultUnstructuredConverter.FromUnstructured(o.SubResourceBody.(*unstructured.Unstructured).Object, &c.scale)
}

func (c *cluster) patchStatus(ctx context.Context, inner client.Client, sub string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
	c.writes++
	return inner.SubResource(sub).Patch(ctx, object, patch, options...)
}

// run makes as many Pods be there as the scale says.
func (c *cluster) run(replicas int32) {
	c.t.Helper()
	if err := c.client.DeleteAllOf(c.t.Context(), &keelsonv1.Pod{}, client.InNamespace("n")); err != nil {
		c.t.Fatal(err)
	}
	for _, pod := range somePods(int(replicas)) {
		if err := c.client.Create(c.t.Context(), pod); err != nil {
			c.t.Fatal(err)
		}
	}
	c.scale.Status.Replicas = replicas
}

// PodMetrics implements ResourceMetrics.
func (c *cluster) PodMetrics(_ context.Context, pods []*keelsonv1.Pod) ([]metricsv1beta1.PodMetrics, error) {
	var all []metricsv1beta1.PodMetrics
	for _, pod := range pods {
		all = append(all, metricsv1beta1.PodMetrics{ObjectMeta: metav1.ObjectMeta{Name: pod.Name}, Timestamp: metav1.NewTime(c.clock.Now()),
			Containers: []metricsv1beta1.ContainerMetrics{{Name: "c1", Usage: corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(c.each, resource.DecimalSI)}}}})
	}
	return all, c.eachErr
}

// Pods implements CustomMetrics.
func (c *cluster) Pods(context.Context, string, string, labels.Selector) (map[string]int64, error) {
	return nil, c.extErr
}

// Object implements CustomMetrics.
func (c *cluster) Object(context.Context, string, string, upstreamautoscalingv2.CrossVersionObjectReference, labels.Selector) (int64, error) {
	return c.external, c.extErr
}

// External implements CustomMetrics.
func (c *cluster) External(context.Context, string, string, labels.Selector) ([]int64, error) {
	return []int64{c.external}, c.extErr
}

func (c *cluster) reconcile() (*autoscalingv2.HorizontalPodAutoscaler, error) {
	c.t.Helper()
	key := client.ObjectKey{Namespace: "n", Name: "web"}
	result, err := c.r.Reconcile(c.t.Context(), ctrl.Request{NamespacedName: key})
	if err == nil && result.RequeueAfter != 15*time.Second {
		c.t.Errorf("looks again after %s", result.RequeueAfter)
	}
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	if err := c.client.Get(c.t.Context(), key, hpa); err != nil {
		c.t.Fatal(err)
	}
	return hpa, err
}

func (c *cluster) recorded() []string {
	var all []string
	for {
		select {
		case event := <-c.events:
			all = append(all, event)
		default:
			return all
		}
	}
}

func conditions(hpa *autoscalingv2.HorizontalPodAutoscaler) map[string]string {
	all := map[string]string{}
	for _, condition := range hpa.Status.Conditions {
		all[string(condition.Type)] = string(condition.Status) + " " + condition.Reason
	}
	return all
}

// hpaOf scales the Deployment web at half of the CPU that it requests.
func hpaOf(least, most int32, changes ...func(*upstreamautoscalingv2.HorizontalPodAutoscalerSpec)) *autoscalingv2.HorizontalPodAutoscaler {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "web", UID: "u", Generation: 7}}
	hpa.Spec = upstreamautoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: upstreamautoscalingv2.CrossVersionObjectReference{APIVersion: "apps.keelson.dev/v1", Kind: "Deployment", Name: "web"},
		MinReplicas:    &least, MaxReplicas: most,
		Metrics: []upstreamautoscalingv2.MetricSpec{{Type: upstreamautoscalingv2.ResourceMetricSourceType, Resource: &upstreamautoscalingv2.ResourceMetricSource{
			Name:   corev1.ResourceCPU,
			Target: upstreamautoscalingv2.MetricTarget{Type: upstreamautoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))},
		}}},
	}
	for _, change := range changes {
		change(&hpa.Spec)
	}
	return hpa
}

func queue(each int64) func(*upstreamautoscalingv2.HorizontalPodAutoscalerSpec) {
	return func(spec *upstreamautoscalingv2.HorizontalPodAutoscalerSpec) {
		spec.Metrics = append(spec.Metrics, upstreamautoscalingv2.MetricSpec{Type: upstreamautoscalingv2.ExternalMetricSourceType, External: &upstreamautoscalingv2.ExternalMetricSource{
			Metric: upstreamautoscalingv2.MetricIdentifier{Name: "queue"},
			Target: upstreamautoscalingv2.MetricTarget{Type: upstreamautoscalingv2.ValueMetricType, Value: resource.NewQuantity(each, resource.DecimalSI)},
		}})
	}
}

func TestScalesUpAndDown(t *testing.T) {
	c := newCluster(t, 2, hpaOf(1, 10))
	c.each = 2000 // all of it: four times the target's half… of two cores
	hpa, err := c.reconcile()
	if err != nil {
		t.Fatal(err)
	}
	if c.scale.Spec.Replicas != 4 || hpa.Status.CurrentReplicas != 2 || hpa.Status.DesiredReplicas != 4 || hpa.Status.LastScaleTime == nil || *hpa.Status.ObservedGeneration != 7 {
		t.Errorf("scaled to %d, status %+v", c.scale.Spec.Replicas, hpa.Status)
	}
	want := map[string]string{"AbleToScale": "True SucceededRescale", "ScalingActive": "True ValidMetricFound", "ScalingLimited": "False DesiredWithinRange", "ScaledToZero": "False NotScaledToZero"}
	if diff := cmp.Diff(want, conditions(hpa)); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"Normal SuccessfulRescale New size: 4; reason: cpu resource utilization (percentage of request) above target"}, c.recorded()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(autoscalingv2.HorizontalPodAutoscalerSummary{Reference: "Deployment/web", Targets: "cpu: 100%/50%", MinPods: "1", Replicas: 2}, hpa.Status.Summary); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}

	c.run(4)
	c.each = 100
	c.clock.SetTime(noon.Add(time.Minute))
	if hpa, err = c.reconcile(); err != nil || c.scale.Spec.Replicas != 4 || conditions(hpa)["AbleToScale"] != "True ScaleDownStabilized" {
		t.Fatalf("within the window: %d replicas, %v, %v", c.scale.Spec.Replicas, conditions(hpa), err)
	}
	c.clock.SetTime(noon.Add(7 * time.Minute))
	if hpa, err = c.reconcile(); err != nil || c.scale.Spec.Replicas != 1 {
		t.Fatalf("after the window: %d replicas, %v, %v", c.scale.Spec.Replicas, conditions(hpa), err)
	}
}

func TestNothingIsWrittenWhenNothingChanges(t *testing.T) {
	c := newCluster(t, 2, hpaOf(1, 10))
	for range 3 {
		if _, err := c.reconcile(); err != nil {
			t.Fatal(err)
		}
		c.clock.SetTime(c.clock.Now().Add(15 * time.Second))
	}
	if c.writes != 1 || len(c.recorded()) != 0 {
		t.Errorf("the status was written %d times", c.writes)
	}
}

func TestEdges(t *testing.T) {
	for what, tc := range map[string]struct {
		replicas   int32
		hpa        *autoscalingv2.HorizontalPodAutoscaler
		prepare    func(*cluster)
		want       int32
		conditions map[string]string
		event, err string
	}{
		"above the most":               {replicas: 12, hpa: hpaOf(1, 10), want: 10, event: "New size: 10; reason: Current number of replicas above Spec.MaxReplicas"},
		"below the least":              {replicas: 1, hpa: hpaOf(3, 10), want: 3, event: "New size: 3; reason: Current number of replicas below Spec.MinReplicas"},
		"somebody scaled to zero":      {replicas: 0, hpa: hpaOf(1, 10), want: 0, conditions: map[string]string{"ScalingActive": "False ScalingDisabled"}},
		"upstream's name of the group": {replicas: 12, want: 10, hpa: hpaOf(1, 10, func(s *upstreamautoscalingv2.HorizontalPodAutoscalerSpec) { s.ScaleTargetRef.APIVersion = "apps/v1" })},
		"a kind that is not there": {replicas: 2, want: 2, hpa: hpaOf(1, 10, func(s *upstreamautoscalingv2.HorizontalPodAutoscalerSpec) { s.ScaleTargetRef.Kind = "Nothing" }),
			conditions: map[string]string{"AbleToScale": "False FailedGetScale"}, event: "Warning FailedGetScale", err: "unable"},
		"an object that is not there": {replicas: 2, want: 2, hpa: hpaOf(1, 10, func(s *upstreamautoscalingv2.HorizontalPodAutoscalerSpec) { s.ScaleTargetRef.Name = "gone" }),
			conditions: map[string]string{"AbleToScale": "False FailedGetScale"}, event: `"gone" not found`, err: "not found"},
		"a kind that is in no namespace": {replicas: 2, want: 2, hpa: hpaOf(1, 10, func(s *upstreamautoscalingv2.HorizontalPodAutoscalerSpec) {
			s.ScaleTargetRef.APIVersion, s.ScaleTargetRef.Kind = "example.com/v1", "Everywhere"
		}), conditions: map[string]string{"AbleToScale": "False FailedGetScale"}, event: "not in a namespace", err: "not in a namespace"},
		"agents do not answer": {replicas: 2, want: 2, hpa: hpaOf(1, 10), prepare: func(c *cluster) { c.eachErr = errors.New("no agent answers") },
			conditions: map[string]string{"AbleToScale": "True SucceededGetScale", "ScalingActive": "False FailedGetResourceMetric"}, event: "Warning FailedGetResourceMetric", err: "no agent answers"},
		"no selector": {replicas: 2, want: 2, hpa: hpaOf(1, 10), prepare: func(c *cluster) { c.scale.Status.Selector = "" },
			conditions: map[string]string{"ScalingActive": "False InvalidSelector"}, event: "Warning SelectorRequired", err: "selector is required"},
		"one metric of two fails, the other goes up": {replicas: 2, want: 4, hpa: hpaOf(1, 10, queue(1)), prepare: func(c *cluster) { c.each, c.extErr = 2000, errNoCustomMetrics },
			conditions: map[string]string{"ScalingActive": "True ValidMetricFound"}, event: "FailedGetExternalMetric", err: "1 invalid out of 2"},
		"one metric of two fails, the other would go down": {replicas: 2, want: 2, hpa: hpaOf(1, 10, queue(1)), prepare: func(c *cluster) { c.each, c.extErr = 100, errNoCustomMetrics },
			conditions: map[string]string{"ScalingActive": "False FailedGetExternalMetric"}, event: "horizontal-pod-autoscaler-prometheus-url", err: "1 invalid out of 2"},
		"the queue cannot be read": {replicas: 2, want: 2, hpa: hpaOf(1, 10, func(s *upstreamautoscalingv2.HorizontalPodAutoscalerSpec) { s.Metrics = nil; queue(1)(s) }), prepare: func(c *cluster) { c.extErr = errors.New("it is away") },
			conditions: map[string]string{"ScalingActive": "False FailedGetExternalMetric"}, err: "1 invalid out of 1",
			event: "FailedComputeMetricsReplicas invalid metrics (1 invalid out of 1), first error is: failed to get queue external metric value: failed to get external metric queue: unable to get external metric n/queue/nil: it is away"},
		"the scale is written by others, too": {replicas: 12, hpa: hpaOf(1, 10), want: 10, prepare: func(c *cluster) { c.conflicts = 3 }},
		"the scale cannot be written": {replicas: 12, hpa: hpaOf(1, 10), want: 12, prepare: func(c *cluster) { c.conflicts = 99 },
			conditions: map[string]string{"AbleToScale": "False FailedUpdateScale"}, event: "Warning FailedRescale", err: "failed to rescale"},
		"no metric is 80 percent of the CPU": {replicas: 2, want: 3, hpa: hpaOf(1, 10, func(s *upstreamautoscalingv2.HorizontalPodAutoscalerSpec) { s.Metrics = nil }), prepare: func(c *cluster) { c.each = 2000 }},
	} {
		t.Run(what, func(t *testing.T) {
			c := newCluster(t, tc.replicas, tc.hpa)
			if tc.prepare != nil {
				tc.prepare(c)
			}
			hpa, err := c.reconcile()
			if tc.err == "" && err != nil || tc.err != "" && err == nil {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if c.scale.Spec.Replicas != tc.want {
				t.Errorf("%d replicas, want %d", c.scale.Spec.Replicas, tc.want)
			}
			have := conditions(hpa)
			for kind, want := range tc.conditions {
				if have[kind] != want {
					t.Errorf("%s is %q, want %q", kind, have[kind], want)
				}
			}
			if events := strings.Join(c.recorded(), "\n"); !strings.Contains(events, tc.event) {
				t.Errorf("no event %q among\n%s", tc.event, events)
			}
		})
	}
}

// TestToZeroAndBack: an autoscaler wakes only what it sent to sleep itself.
func TestToZeroAndBack(t *testing.T) {
	c := newCluster(t, 2, hpaOf(0, 10, func(s *upstreamautoscalingv2.HorizontalPodAutoscalerSpec) { s.Metrics = nil; queue(1)(s) }))
	if _, err := c.reconcile(); err != nil {
		t.Fatal(err)
	}
	c.clock.SetTime(noon.Add(10 * time.Minute))
	hpa, err := c.reconcile()
	if err != nil || c.scale.Spec.Replicas != 0 || conditions(hpa)["ScaledToZero"] != "True ScaledToZero" {
		t.Fatalf("%d replicas, %v, %v", c.scale.Spec.Replicas, conditions(hpa), err)
	}
	c.run(0)
	if _, err := c.reconcile(); err != nil || c.scale.Spec.Replicas != 0 {
		t.Fatalf("woke up for nothing: %d replicas, %v", c.scale.Spec.Replicas, err)
	}
	c.external = 3000
	if hpa, err = c.reconcile(); err != nil || c.scale.Spec.Replicas != 3 || conditions(hpa)["ScaledToZero"] != "False NotScaledToZero" {
		t.Fatalf("%d replicas, %v, %v", c.scale.Spec.Replicas, conditions(hpa), err)
	}
}

// TestTwoForTheSamePods: neither scales, or they would pull in two directions.
func TestTwoForTheSamePods(t *testing.T) {
	c := newCluster(t, 12, hpaOf(1, 20))
	second := hpaOf(1, 20)
	second.Name, second.UID, second.ResourceVersion = "web2", "u2", ""
	if err := c.client.Create(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if _, err := c.reconcile(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(second)}); err == nil || !strings.Contains(err.Error(), "more than one HPA") {
		t.Errorf("the second: %v", err)
	}
	if hpa, err := c.reconcile(); err == nil || conditions(hpa)["ScalingActive"] != "False AmbiguousSelector" {
		t.Errorf("the first: %v, %v", conditions(hpa), err)
	}
	if err := c.client.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if _, err := c.r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(second)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.reconcile(); err != nil {
		t.Errorf("after the second is gone: %v", err)
	}
}
