package podautoscaler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	upstreamappsv1 "k8s.io/api/apps/v1"
	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/podautoscaler"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

func autoscaler(ns, target string, highest int32) *autoscalingv2.HorizontalPodAutoscaler {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"}}
	hpa.Spec.ScaleTargetRef = upstreamautoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: target}
	hpa.Spec.MaxReplicas = highest
	return hpa
}

// runningDeployment has two Pods that run; nobody makes more of them here.
func runningDeployment(t *testing.T, ns string) *appsv1.Deployment {
	t.Helper()
	deployment := builders.MakeDeployment("web", 2).Namespace(ns).Spec(func(s *upstreamappsv1.DeploymentSpec) { s.Template.Spec = podSpec() }).Obj()
	create(t.Context(), t, deployment)
	deployment.Status.Replicas = 2
	deployment.Status.Summary = summary.Deployment(deployment)
	if err := testEnv.Client.Status().Update(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		runningPod(t, ns, fmt.Sprintf("web-%d", i))
	}
	return deployment
}

func runningPod(t *testing.T, ns, name string) {
	t.Helper()
	started := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	pod := builders.MakePod(name).Namespace(ns).Label("app", "web").Obj()
	pod.Spec = podSpec()
	create(t.Context(), t, pod)
	pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, &started
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: started}}
	if err := testEnv.Client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

func replicas(t *testing.T, deployment *appsv1.Deployment, want int32) {
	t.Helper()
	env.Eventually(t, func() string {
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(deployment), deployment); err != nil {
			return err.Error()
		}
		if *deployment.Spec.Replicas != want {
			return fmt.Sprintf("scaled to %d, want %d", *deployment.Spec.Replicas, want)
		}
		return ""
	})
}

// TestAChangedAutoscalerIsLookedAtAtOnce: the period is an hour, so only the watch can
// bring it.
func TestAChangedAutoscalerIsLookedAtAtOnce(t *testing.T) {
	ns := testEnv.Namespace(t)
	deployment := runningDeployment(t, ns)
	testEnv.StartManager(t, func(mgr ctrl.Manager) error {
		return podautoscaler.Add(mgr, podautoscaler.Options{Resources: &busy{each: 400, at: time.Now}, Period: time.Hour})
	})
	hpa := autoscaler(ns, "web", 3)
	create(t.Context(), t, hpa)
	replicas(t, deployment, 3)
	env.Eventually(t, func() string {
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(hpa), hpa); err != nil {
			return err.Error()
		}
		for _, c := range hpa.Status.Conditions {
			if c.Type == upstreamautoscalingv2.AbleToScale && c.Reason == "SucceededRescale" && hpa.Status.LastScaleTime != nil {
				return ""
			}
		}
		return fmt.Sprintf("the status does not say so: %+v", hpa.Status)
	})

	before := hpa.DeepCopy()
	hpa.Spec.MaxReplicas = 4
	if err := testEnv.Client.Patch(t.Context(), hpa, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	replicas(t, deployment, 4)
}

// TestTheNextPeriodBringsTheRest: what nobody watches, and what failed, is looked at again
// with the next period.
func TestTheNextPeriodBringsTheRest(t *testing.T) {
	ns := testEnv.Namespace(t)
	hpa := autoscaler(ns, "web", 4)
	create(t.Context(), t, hpa)
	testEnv.StartManager(t, func(mgr ctrl.Manager) error {
		return podautoscaler.Add(mgr, podautoscaler.Options{Resources: &busy{each: 400, at: time.Now}, Period: 200 * time.Millisecond})
	})
	const complaint = `the HPA controller was unable to get the target's current scale: deployments.apps "web" not found`
	env.Eventually(t, func() string {
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(hpa), hpa); err != nil {
			return err.Error()
		}
		for _, c := range hpa.Status.Conditions {
			if c.Type == upstreamautoscalingv2.AbleToScale && c.Status == corev1.ConditionFalse && c.Reason == "FailedGetScale" && c.Message == complaint {
				return ""
			}
		}
		return fmt.Sprintf("conditions %+v", hpa.Status.Conditions)
	})
	env.Eventually(t, func() string {
		var list eventsv1.EventList
		if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
			return err.Error()
		}
		for _, e := range list.Items {
			if e.Reason == "FailedGetScale" && e.Type == corev1.EventTypeWarning && strings.Contains(e.Note, `"web" not found`) {
				return ""
			}
		}
		return fmt.Sprintf("%d events, none says it", len(list.Items))
	})

	deployment := runningDeployment(t, ns)
	replicas(t, deployment, 4)
}
