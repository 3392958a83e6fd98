package guest_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/env"
)

const (
	// quietFirst is how long nothing must change for the cluster to count as settled.
	quietFirst = 8 * time.Second
	// shortWindow is what CI has time for; KEELSON_GUEST_WINDOW=5m is the whole test.
	shortWindow = 20 * time.Second
)

// workloads are created twice: with CORE, APPS ... standing for Keelson's groups, and for
// upstream's. Nobody schedules the stock Pods, because there is no stock Node.
const workloads = `
{apiVersion: CORE, kind: ReplicationController, metadata: {name: rc}, spec: {replicas: 1, selector: {app: rc}, template: {metadata: {labels: {app: rc}}, spec: POD}}}
---
{apiVersion: APPS, kind: ReplicaSet, metadata: {name: rs}, spec: {replicas: 1, selector: {matchLabels: {app: rs}}, template: {metadata: {labels: {app: rs}}, spec: POD}}}
---
{apiVersion: APPS, kind: Deployment, metadata: {name: deployment}, spec: {replicas: 2, selector: {matchLabels: {app: deployment}}, template: {metadata: {labels: {app: deployment}}, spec: POD}}}
---
{apiVersion: APPS, kind: DaemonSet, metadata: {name: ds}, spec: {selector: {matchLabels: {app: ds}}, template: {metadata: {labels: {app: ds}}, spec: POD}}}
---
{apiVersion: APPS, kind: StatefulSet, metadata: {name: sts}, spec: {serviceName: service, selector: {matchLabels: {app: sts}}, template: {metadata: {labels: {app: sts}}, spec: POD}}}
---
{apiVersion: BATCH, kind: Job, metadata: {name: job}, spec: {template: {spec: TASK}}}
---
{apiVersion: BATCH, kind: CronJob, metadata: {name: cronjob}, spec: {schedule: 0 0 29 2 *, jobTemplate: {spec: {template: {spec: TASK}}}}}
---
{apiVersion: AUTOSCALING, kind: HorizontalPodAutoscaler, metadata: {name: hpa}, spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: deployment}}}
---
{apiVersion: POLICY, kind: PodDisruptionBudget, metadata: {name: budget}, spec: {minAvailable: 1, selector: {matchLabels: {app: deployment}}}}
---
{apiVersion: CORE, kind: Service, metadata: {name: service}, spec: {selector: {app: deployment}, ports: [{port: 80}]}}
---
{apiVersion: CORE, kind: ResourceQuota, metadata: {name: quota}, spec: {hard: {pods: "20", services: "5"}}}
---
{apiVersion: CORE, kind: LimitRange, metadata: {name: limits}, spec: {limits: [{type: Container, max: {cpu: 100m}}]}}
---
{apiVersion: CORE, kind: PodTemplate, metadata: {name: template}, template: {spec: POD}}
---
{apiVersion: CORE, kind: Pod, metadata: {name: bare}, spec: POD}
`

var (
	ours   = strings.NewReplacer("CORE", "core.keelson.dev/v1", "APPS", "apps.keelson.dev/v1", "BATCH", "batch.keelson.dev/v1", "AUTOSCALING", "autoscaling.keelson.dev/v2", "POLICY", "policy.keelson.dev/v1")
	theirs = strings.NewReplacer("CORE", "v1", "APPS", "apps/v1", "BATCH", "batch/v1", "AUTOSCALING", "autoscaling/v2", "POLICY", "policy/v1")
	specs  = strings.NewReplacer("POD", "{containers: [{name: c, image: 'i:1'}]}", "TASK", "{restartPolicy: Never, containers: [{name: c, image: 'i:1'}]}")
)

// lacking is how the API server words a refusal for want of rights.
var lacking = regexp.MustCompile(`User \\?"[^"]*" cannot \w+ resource`)

func createAll(t *testing.T, ns string, groups *strings.Replacer) {
	t.Helper()
	for document := range strings.SplitSeq(specs.Replace(groups.Replace(workloads)), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			t.Fatal(err)
		}
		object.SetNamespace(ns)
		env.Eventually(t, func() string { // the account of the Pods comes from the stock controllers
			if err := testEnv.Client.Create(t.Context(), object); err != nil {
				return fmt.Sprintf("create %s %s: %v", object.GetAPIVersion(), object.GetKind(), err)
			}
			return ""
		})
	}
}

// TestNobodyTouchesTheOthersObjects watches every object there is, of every kind.
func TestNobodyTouchesTheOthersObjects(t *testing.T) {
	processes := append(startStock(t), startGuest(t))
	readyNode(t)
	testEnv.StartFakeAgent(t)
	ns, doomed := namespace(t), namespace(t)
	for _, name := range []string{ns, doomed} {
		createAll(t, name, ours)
		createAll(t, name, theirs)
	}
	env.Eventually(t, func() string { return running(t, ns) })

	t.Run("a namespace goes with the objects of both", func(t *testing.T) {
		if err := testEnv.Client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: doomed}}); err != nil {
			t.Fatal(err)
		}
		env.Eventually(t, func() string {
			now := &corev1.Namespace{}
			err := testEnv.Client.Get(t.Context(), client.ObjectKey{Name: doomed}, now)
			if apierrors.IsNotFound(err) {
				return ""
			}
			return fmt.Sprintf("it is still there (%v): %v", err, now.Status.Conditions)
		})
	})

	before := settle(t)
	window := guestWindow(t)
	time.Sleep(window) // the window is what is measured
	if changed := changes(before, versions(t)); len(changed) > 0 {
		t.Errorf("changed in %s although nothing happened:\n%s", window, strings.Join(changed, "\n"))
	}
	t.Logf("%d objects stood still for %s", len(before), window)

	t.Run("who owns an object decides what becomes of its Pods", func(t *testing.T) { ownersApart(t, ns) })
	for _, p := range processes {
		if p.HasEnded() {
			t.Error("a program ended by itself")
		}
	}
	if denied := lacking.FindAllString(processes[len(processes)-1].Log.String(), 3); len(denied) > 0 {
		t.Errorf("the manager lacks rights in guest mode: %q", denied)
	}
}

// ownersApart deletes Keelson's Deployment, whose Pods the stock garbage collector takes
// along, and scales the stock one, which has the same name.
func ownersApart(t *testing.T, ns string) {
	stockPods, ourPods := podsOf(t, ns, &corev1.PodList{}, "deployment"), podsOf(t, ns, &keelsonv1.PodList{}, "deployment")
	if len(stockPods) != 2 || len(ourPods) != 2 {
		t.Fatalf("Pods %v and %v", stockPods, ourPods)
	}
	gone := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps.keelson.dev/v1", "kind": "Deployment"}}
	gone.SetNamespace(ns)
	gone.SetName("deployment")
	if err := testEnv.Client.Delete(t.Context(), gone, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		t.Fatal(err)
	}
	env.Eventually(t, func() string {
		if left := podsOf(t, ns, &keelsonv1.PodList{}, "deployment"); len(left) > 0 {
			return fmt.Sprintf("Pods of the deleted Deployment: %v", left)
		}
		return ""
	})
	if now := podsOf(t, ns, &corev1.PodList{}, "deployment"); !slices.Equal(now, stockPods) {
		t.Errorf("the stock Deployment has the Pods %v, had %v", now, stockPods)
	}
}

func podsOf(t *testing.T, ns string, list client.ObjectList, app string) []string {
	t.Helper()
	if err := testEnv.Client.List(t.Context(), list, client.InNamespace(ns), client.MatchingLabels{"app": app}); err != nil {
		t.Fatal(err)
	}
	var names []string
	switch pods := list.(type) {
	case *corev1.PodList:
		for i := range pods.Items {
			names = append(names, pods.Items[i].Name)
		}
	case *keelsonv1.PodList:
		for i := range pods.Items {
			names = append(names, pods.Items[i].Name)
		}
	}
	slices.Sort(names)
	return names
}

func namespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "guest-"}}
	if err := testEnv.Client.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// readyNode is a Node whose agent has just been heard.
func readyNode(t *testing.T) {
	t.Helper()
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "guest"}}
	if err := testEnv.Client.Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	before := node.DeepCopy()
	node.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if err := testEnv.Client.Status().Patch(t.Context(), node, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// running complains until each controller of either side has made its Pods, and Keelson's
// run: of a ReplicationController, a ReplicaSet, a Deployment (2), a DaemonSet (none of
// stock ones, which have no Node), a StatefulSet, a Job, and the one made by hand.
func running(t *testing.T, ns string) string {
	t.Helper()
	var stockPods corev1.PodList
	var ourPods keelsonv1.PodList
	for _, list := range []client.ObjectList{&stockPods, &ourPods} {
		if err := testEnv.Client.List(t.Context(), list, client.InNamespace(ns)); err != nil {
			return err.Error()
		}
	}
	placed := 0
	for i := range ourPods.Items {
		if p := ourPods.Items[i].Status.Phase; p == corev1.PodRunning || p == corev1.PodSucceeded {
			placed++
		}
	}
	if len(stockPods.Items) != 7 || placed != 8 {
		return fmt.Sprintf("%d stock Pods, want 7, and %d of %d own ones run, want 8", len(stockPods.Items), placed, len(ourPods.Items))
	}
	return ""
}

// restless are the kinds whose objects change while nothing happens: heartbeats, what was
// observed, and the API server's reports on itself.
var restless = map[string]bool{
	"leases.coordination.k8s.io": true, "events": true, "events.events.k8s.io": true,
	"flowschemas.flowcontrol.apiserver.k8s.io": true, "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": true,
}

// versions are those of all objects there are, by resource, namespace and name.
func versions(t *testing.T) map[string]string {
	t.Helper()
	server, err := discovery.NewDiscoveryClientForConfig(testEnv.Config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := server.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	reader, err := metadata.NewForConfig(testEnv.Config)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "watch"}}, lists) {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.APIResources {
			gvr := gv.WithResource(list.APIResources[i].Name)
			if restless[gvr.GroupResource().String()] {
				continue
			}
			objects, err := reader.Resource(gvr).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for j := range objects.Items {
				o := &objects.Items[j]
				all[gvr.GroupResource().String()+" "+o.Namespace+"/"+o.Name] = string(o.UID) + " " + o.ResourceVersion
			}
		}
	}
	return all
}

func changes(before, after map[string]string) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now, there := after[name]; !there {
			lines = append(lines, name+" is gone")
		} else if now != before[name] {
			lines = append(lines, name+" was written")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, there := before[name]; !there {
			lines = append(lines, name+" is new")
		}
	}
	return lines
}

// settle waits until nothing has changed for a while.
func settle(t *testing.T) map[string]string {
	t.Helper()
	known, since := versions(t), time.Now()
	env.Eventually(t, func() string {
		now := versions(t)
		if changed := changes(known, now); len(changed) > 0 {
			known, since = now, time.Now()
			return "still changing: " + strings.Join(changed, ", ")
		}
		if time.Since(since) < quietFirst {
			return "quiet, but not for long enough"
		}
		return ""
	})
	return known
}

func guestWindow(t *testing.T) time.Duration {
	t.Helper()
	asked := os.Getenv("KEELSON_GUEST_WINDOW")
	if asked == "" {
		return shortWindow
	}
	window, err := time.ParseDuration(asked)
	if err != nil {
		t.Fatalf("KEELSON_GUEST_WINDOW: %v", err)
	}
	return window
}
