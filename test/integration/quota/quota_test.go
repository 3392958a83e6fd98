package quota

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/env"
)

// TestQuota shares two replicas of admission between its parts; each part has a
// namespace of its own.
func TestQuota(t *testing.T) {
	balancer, replicas := start(t)
	t.Run("ExactlyAsManyAsFit", func(t *testing.T) { exactlyAsManyAsFit(t, balancer, replicas[1]) })
	t.Run("WhatIsGivenBack", whatIsGivenBack)
	t.Run("OtherKinds", otherKinds)
	t.Run("BelowTheUse", belowTheUse)
	t.Run("DryRun", dryRun)
	t.Run("TheMarkFollowsTheQuotas", theMarkFollowsTheQuotas)
}

// limit makes a quota, of cpu among others, and waits until it is counted.
func limit(t *testing.T, namespace, hard string) *keelsonv1.ResourceQuota {
	t.Helper()
	q := &keelsonv1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: amounts(hard)}}
	if err := testEnv.Client.Create(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	env.Eventually(t, func() string {
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(q), q); err != nil {
			return err.Error()
		}
		if len(q.Status.Hard) == 0 || len(q.Status.Used) == 0 {
			return "the quota is not counted"
		}
		return ""
	})
	// The API server knows the mark of the namespace a moment after it is written.
	env.Eventually(t, func() string {
		over := pod(namespace)
		over.Name, over.Spec.Containers[0].Resources.Requests = "probe", amounts("cpu=1M")
		if err := testEnv.Client.Create(t.Context(), over, client.DryRunAll); !apierrors.IsForbidden(err) {
			return fmt.Sprintf("nobody asks about the quota: %v", err)
		}
		return ""
	})
	return q
}

func amounts(text string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for _, pair := range strings.Fields(text) {
		name, value, _ := strings.Cut(pair, "=")
		list[corev1.ResourceName(name)] = resource.MustParse(value)
	}
	return list
}

func text(list corev1.ResourceList) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		amount := list[name]
		all = append(all, string(name)+"="+amount.String())
	}
	return strings.Join(all, " ")
}

func pod(namespace string) *keelsonv1.Pod {
	return &keelsonv1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "p-"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "c", Image: "i:1", Resources: corev1.ResourceRequirements{Requests: amounts("cpu=10m")},
		}}},
	}
}

func eventuallyUsed(t *testing.T, q *keelsonv1.ResourceQuota, want string) {
	t.Helper()
	env.Eventually(t, func() string {
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(q), q); err != nil {
			return err.Error()
		}
		if got := text(q.Status.Used); got != want || len(q.Status.Summary.Pending) > 0 {
			return fmt.Sprintf("used %s with %d reservations, want %s", got, len(q.Status.Summary.Pending), want)
		}
		return ""
	})
}

// belowTheUse: a quota may be less than what is there. Nothing goes for it, and nothing
// more comes.
func belowTheUse(t *testing.T) {
	namespace := testEnv.Namespace(t)
	q := limit(t, namespace, "pods=3 cpu=100")
	for range 3 {
		if err := testEnv.Client.Create(t.Context(), pod(namespace)); err != nil {
			t.Fatal(err)
		}
	}
	eventuallyUsed(t, q, "cpu=30m pods=3")
	before := q.DeepCopy()
	q.Spec.Hard[corev1.ResourcePods] = resource.MustParse("1")
	if err := testEnv.Client.Patch(t.Context(), q, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	env.Eventually(t, func() string {
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(q), q); err != nil {
			return err.Error()
		}
		if got := text(q.Status.Hard) + ", used " + text(q.Status.Used); got != "cpu=100 pods=1, used cpu=30m pods=3" {
			return got
		}
		return ""
	})
	err := testEnv.Client.Create(t.Context(), pod(namespace))
	if want := "exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=1"; !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	pods := &keelsonv1.PodList{}
	if err := testEnv.Client.List(t.Context(), pods, client.InNamespace(namespace)); err != nil || len(pods.Items) != 3 {
		t.Errorf("%d Pods are left of 3: %v", len(pods.Items), err)
	}
}

// exactlyAsManyAsFit: 200 Pods at once against a quota of 50, while a replica goes.
func exactlyAsManyAsFit(t *testing.T, balancer *env.Balancer, stays string) {
	const wanted, room = 200, 50
	namespace := testEnv.Namespace(t)
	q := limit(t, namespace, fmt.Sprintf("pods=%d cpu=100", room))
	var admitted, refused atomic.Int32
	var wg sync.WaitGroup
	for i := range wanted {
		wg.Go(func() {
			if i == wanted/2 {
				balancer.Only(stays)
			}
			err := testEnv.Client.Create(t.Context(), pod(namespace))
			switch {
			case err == nil:
				admitted.Add(1)
			case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota: q, requested: pods=1, used: pods=50, limited: pods=50"):
				refused.Add(1)
			default:
				t.Errorf("neither admitted nor over the quota: %v", err)
			}
		})
	}
	wg.Wait()
	balancer.Only("")
	var pods keelsonv1.PodList
	if err := testEnv.Client.List(t.Context(), &pods, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != room || admitted.Load() != room || refused.Load() != wanted-room {
		t.Errorf("%d Pods, %d admitted, %d refused; want %d, %d, %d", len(pods.Items), admitted.Load(), refused.Load(), room, room, wanted-room)
	}
	eventuallyUsed(t, q, "cpu=500m pods=50")
	if q.Status.Summary.Request != "cpu: 500m/100, pods: 50/50" {
		t.Errorf("column %q", q.Status.Summary.Request)
	}
}

func whatIsGivenBack(t *testing.T) {
	namespace := testEnv.Namespace(t)
	q := limit(t, namespace, "pods=2 cpu=1")
	first, second := pod(namespace), pod(namespace)
	for _, p := range []*keelsonv1.Pod{first, second} {
		if err := testEnv.Client.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	eventuallyUsed(t, q, "cpu=20m pods=2")
	if err := testEnv.Client.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	eventuallyUsed(t, q, "cpu=10m pods=1")
	second.Status.Phase = corev1.PodSucceeded
	if err := testEnv.Client.Status().Update(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	eventuallyUsed(t, q, "cpu=0 pods=0")

	q.Spec.Hard = amounts("pods=0 count/pods=9")
	if err := testEnv.Client.Update(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	eventuallyUsed(t, q, "count/pods=1 pods=0")
	if err := testEnv.Client.Create(t.Context(), pod(namespace)); !apierrors.IsForbidden(err) {
		t.Errorf("a Pod into a quota of none: %v", err)
	}
}

func otherKinds(t *testing.T) {
	namespace := testEnv.Namespace(t)
	q := limit(t, namespace, "cpu=1 configmaps=1 count/replicationcontrollers=1 services=1 services.nodeports=0")
	config := func(name string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}
	if err := testEnv.Client.Create(t.Context(), config("a")); err != nil {
		t.Fatal(err)
	}
	err := testEnv.Client.Create(t.Context(), config("b"))
	if err == nil || !strings.Contains(err.Error(), `configmaps "b" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1`) {
		t.Errorf("a second ConfigMap: %v", err)
	}
	rc := &keelsonv1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "rc"}, Spec: corev1.ReplicationControllerSpec{
		Replicas: new(int32(0)), Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: pod(namespace).Spec},
	}}
	if err := testEnv.Client.Create(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	service := &keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if err := testEnv.Client.Create(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	eventuallyUsed(t, q, "configmaps=1 count/replicationcontrollers=1 cpu=0 services=1 services.nodeports=0")
	service.Spec.Type = corev1.ServiceTypeNodePort
	if err := testEnv.Client.Update(t.Context(), service); err == nil || !strings.Contains(err.Error(), "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=0, limited: services.nodeports=0") {
		t.Errorf("a node port: %v", err)
	}
	if err := testEnv.Client.Delete(t.Context(), config("a")); err != nil {
		t.Fatal(err)
	}
	eventuallyUsed(t, q, "configmaps=0 count/replicationcontrollers=1 cpu=0 services=1 services.nodeports=0")
}

func dryRun(t *testing.T) {
	namespace := testEnv.Namespace(t)
	q := limit(t, namespace, "pods=1 cpu=1")
	for range 3 {
		if err := testEnv.Client.Create(t.Context(), pod(namespace), client.DryRunAll); err != nil {
			t.Fatal(err)
		}
	}
	if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(q), q); err != nil || text(q.Status.Used) != "cpu=0 pods=0" {
		t.Errorf("a dry run takes %s, %v", text(q.Status.Used), err)
	}
	greedy := pod(namespace)
	greedy.Spec.Containers[0].Resources.Requests = amounts("cpu=2")
	if err := testEnv.Client.Create(t.Context(), greedy, client.DryRunAll); !apierrors.IsForbidden(err) {
		t.Errorf("a dry run of too much: %v", err)
	}
}

func theMarkFollowsTheQuotas(t *testing.T) {
	name := testEnv.Namespace(t)
	q := limit(t, name, "cpu=1")
	namespace := &corev1.Namespace{}
	marked := func(want bool) {
		t.Helper()
		env.Eventually(t, func() string {
			if err := testEnv.Client.Get(t.Context(), client.ObjectKey{Name: name}, namespace); err != nil {
				return err.Error()
			}
			if _, is := namespace.Labels[keelsonv1.QuotaLabel]; is != want {
				return fmt.Sprintf("labels %v", namespace.Labels)
			}
			return ""
		})
	}
	marked(true)
	delete(namespace.Labels, keelsonv1.QuotaLabel)
	if err := testEnv.Client.Update(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	marked(true)
	if err := testEnv.Client.Delete(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	marked(false)
}
