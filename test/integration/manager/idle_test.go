package manager_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	upstreamnetworkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	networkingv1 "github.com/keelson-dev/keelson/apis/networking/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
	webhookconfig "github.com/keelson-dev/keelson/config/webhook"
	"github.com/keelson-dev/keelson/controllers/admission"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

const (
	// quietFirst is how long nothing must be written for a cluster to count as settled:
	// longer than between two looks at an autoscaler.
	quietFirst = 17 * time.Second
	// shortWindow is longer than every short period of the manager: its looks at hanging
	// namespaces (15 s), for new kinds (30 s). The long ones (a Pod that fits nowhere and a
	// quota are looked at again after 5 min) take KEELSON_IDLE=10m.
	shortWindow = 35 * time.Second
)

// idleWindow is for how long nothing may be written: KEELSON_IDLE, or shortWindow.
func idleWindow(t *testing.T) time.Duration {
	t.Helper()
	asked := os.Getenv("KEELSON_IDLE")
	if asked == "" {
		return shortWindow
	}
	window, err := time.ParseDuration(asked)
	if err != nil {
		t.Fatalf("KEELSON_IDLE: %v", err)
	}
	return window
}

// What a cluster holds while nothing happens in it must not make the manager write:
// every object is in a state in which a controller keeps looking at it.
func TestIdleManagerWritesNothingButItsLease(t *testing.T) {
	install(t)
	ns := testEnv.Namespace(t)
	t.Cleanup(func() { release(t, ns) })
	readyNode(t, "idle")
	create(t, web(ns, 3))
	create(t, builders.MakeService("web").Namespace(ns).Selector("app", "web").Type(corev1.ServiceTypeNodePort).Port("http", 80, 8080).Obj())
	create(t, builders.MakeService("peers").Namespace(ns).Selector("app", "web").Headless().Port("http", 80, 8080).Obj())
	create(t, builders.MakeService("empty").Namespace(ns).Selector("app", "none").Port("http", 80, 8080).Obj())
	hopeless := builders.MakePod("hopeless").Namespace(ns).Obj()
	hopeless.Spec.NodeSelector = map[string]string{"disk": "none"}
	create(t, hopeless)
	hangingNamespace(t)
	workloads := oneOfEach(t)
	networkObjects(t, ns)
	testEnv.StartFakeAgentIn(t, workloads)
	port := strconv.Itoa(env.FreePort(t))
	webhooks := "https://localhost:" + port
	leader := startReplica(t, "--node-monitor-grace-period=1h", "--kubernetes-service-endpoints=192.0.2.1:6443",
		"--load-balancer-pool=198.51.100.0/30", "--webhook-port="+port, "--webhook-url="+webhooks)
	leader.becomesReady(t)
	becomesLeader(t, leader)
	env.Eventually(t, func() string { return runAll(t, ns, 3) })
	// Those of a Deployment, a ReplicaSet, a DaemonSet, a StatefulSet and a Job.
	env.Eventually(t, func() string { return count(t, workloads, 5) })
	ending := create(t, builders.MakePod("ending").Namespace(ns).Node("idle").Finalizer(keelsonv1.PodFinalizer).Obj())
	if err := testEnv.Client.Delete(t.Context(), ending); err != nil {
		t.Fatal(err)
	}
	admissionObjects(t, webhooks)
	settled := settle(t)

	window := idleWindow(t)
	time.Sleep(window) // the window is what is measured

	if written := difference(writes(t), settled); len(written) > 0 {
		t.Errorf("written in %s:\n%s", window, strings.Join(written, "\n"))
	}
}

// oneOfEach makes an object of every kind that has a controller, and returns the namespace
// of those that have one.
func oneOfEach(t *testing.T) string {
	t.Helper()
	ns := testEnv.Namespace(t)
	t.Cleanup(func() { release(t, ns) })
	create(t, builders.MakeDeployment("deployment", 1).Namespace(ns).Obj())
	create(t, builders.MakeReplicaSet("replicaset", 1).Namespace(ns).Obj())
	create(t, builders.MakeDaemonSet("daemonset").Namespace(ns).Obj())
	create(t, builders.MakeStatefulSet("statefulset", 1).Namespace(ns).Obj())
	create(t, builders.MakeJob("job").Namespace(ns).Completions(1).Obj())
	cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "cronjob"}}
	cron.Spec.Schedule, cron.Spec.JobTemplate.Spec = "0 0 29 2 *", builders.MakeJob("x").Obj().Spec
	create(t, cron)
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "budget"}}
	budget.Spec.MinAvailable, budget.Spec.Selector = new(intstr.FromInt32(1)), &metav1.LabelSelector{MatchLabels: map[string]string{"app": "statefulset"}}
	create(t, budget)
	hard := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("10")}
	create(t, &keelsonv1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "quota"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}})
	create(t, autoscaler(ns, "autoscaler", "deployment"))
	create(t, autoscaler(ns, "lost", "none"))
	ranges := corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Default: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}}}}
	create(t, &keelsonv1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "limits"}, Spec: ranges})
	template := &keelsonv1.PodTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "template"}}
	template.Template.Spec = builders.MakePod("x").Obj().Spec
	create(t, template)
	hygieneObjects(t, ns)
	return ns
}

// autoscaler is of a Deployment; nobody measures its Pods here.
func autoscaler(ns, name, target string) *autoscalingv2.HorizontalPodAutoscaler {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	hpa.Spec.ScaleTargetRef = upstreamautoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: target}
	hpa.Spec.MaxReplicas = 3
	return hpa
}

// hygieneObjects are of the kinds that a stock controller manager looks after.
func hygieneObjects(t *testing.T, ns string) {
	t.Helper()
	create(t, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "idle"}, AggregationRule: &rbacv1.AggregationRule{
		ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"}}},
	}})
	create(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "token", Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"}},
		Type:       corev1.SecretTypeServiceAccountToken,
	})
	create(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-abcdef"}, Type: "bootstrap.kubernetes.io/token",
		StringData: map[string]string{"expiration": "2999-01-01T00:00:00Z"},
	})
	create(t, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "claim"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	})
}

// networkObjects are what others look at as well: hand-made Endpoints and their mirror,
// Services with an address of the pool, one that it has none left for, and a policy.
func networkObjects(t *testing.T, ns string) {
	t.Helper()
	create(t, builders.MakeService("outside").Namespace(ns).Port("", 3306, 3306).Obj())
	create(t, &keelsonv1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "outside"}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "192.168.3.180"}}, Ports: []corev1.EndpointPort{{Port: 3306, Protocol: corev1.ProtocolTCP}},
	}}})
	for i := range 5 {
		create(t, builders.MakeService(fmt.Sprintf("public-%d", i)).Namespace(ns).Selector("app", "web").Type(corev1.ServiceTypeLoadBalancer).Port("http", 80, 8080).Obj())
	}
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "closed"}}
	policy.Spec.PolicyTypes = []upstreamnetworkingv1.PolicyType{upstreamnetworkingv1.PolicyTypeIngress}
	create(t, policy)
}

// admissionObjects are Keelson's own registration and a webhook and a policy of a user's,
// which the manager then registers for, and evaluates for our kinds. They come last, and
// go first: nothing else here can be written while the manager is away.
func admissionObjects(t *testing.T, address string) {
	t.Helper()
	registrations, err := webhookconfig.ForURL(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, registration := range registrations {
		create(t, registration)
	}
	rule := admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
	}
	create(t, &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "idle"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "idle.example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: new(admissionregistrationv1.SideEffectClassNone),
			ClientConfig:  admissionregistrationv1.WebhookClientConfig{URL: new("https://localhost:1/")},
			FailurePolicy: new(admissionregistrationv1.Ignore), Rules: []admissionregistrationv1.RuleWithOperations{rule},
		}},
	})
	create(t, &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "idle"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: rule}}},
			Validations:      []admissionregistrationv1.Validation{{Expression: "object.metadata.name != 'bad'"}},
		},
	})
	env.Eventually(t, func() string {
		registered := &admissionregistrationv1.ValidatingWebhookConfiguration{}
		if err := testEnv.Client.Get(t.Context(), client.ObjectKey{Name: admission.ConfigurationName}, registered); err != nil {
			return err.Error()
		}
		for _, w := range registered.Webhooks {
			if len(w.ClientConfig.CABundle) > 0 && strings.HasPrefix(w.Name, "hooks.") {
				return ""
			}
		}
		return "the manager does not call the user's webhook yet"
	})
}

// settle waits until nothing is written for a while and returns the counts.
func settle(t *testing.T) map[string]int {
	t.Helper()
	counts, since := writes(t), time.Now()
	env.Eventually(t, func() string {
		now := writes(t)
		if written := difference(now, counts); len(written) > 0 {
			counts, since = now, time.Now()
			return "still writing: " + strings.Join(written, ", ")
		}
		if time.Since(since) < quietFirst {
			return "quiet, but not for long enough"
		}
		return ""
	})
	return counts
}

// runAll plays the agent that has started every placed Pod, want of them.
func runAll(t *testing.T, ns string, want int) (complaint string) {
	t.Helper()
	pods := &keelsonv1.PodList{}
	if err := testEnv.Client.List(t.Context(), pods, client.InNamespace(ns)); err != nil {
		return err.Error()
	}
	running := 0
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Spec.NodeName == "" {
			continue
		}
		running++
		if pod.Status.Phase == corev1.PodRunning {
			continue
		}
		status := fmt.Sprintf(`{"status":{"phase":"Running","podIP":"10.244.0.%[1]d","podIPs":[{"ip":"10.244.0.%[1]d"}],"conditions":[{"type":"Ready","status":"True"}]}}`, 10+i)
		if err := testEnv.Client.Status().Patch(t.Context(), pod, merge(status)); err != nil {
			return err.Error()
		}
	}
	if running != want {
		return fmt.Sprintf("%d Pods are placed, want %d", running, want)
	}
	return ""
}

// hangingNamespace is deleted but holds an object that stays.
func hangingNamespace(t *testing.T) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "hanging-"}}
	if err := testEnv.Client.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "held", Finalizers: []string{"example.com/hold"}}})
	if err := testEnv.Client.Delete(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
}

var (
	requests = regexp.MustCompile(`(?m)^apiserver_request_total\{(.*)\} (\d+)$`)
	label    = regexp.MustCompile(`(\w+)="([^"]*)"`)
	// mutating are the verbs under which the API server counts writes.
	mutating = []string{"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}
)

// writes counts the API server's write requests so far, by verb and resource, those
// that changed nothing and those that failed included. Leases are left out, and the
// API server's own reports on its flow schemas.
func writes(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, line := range requests.FindAllStringSubmatch(apiServerMetrics(t), -1) {
		labels := map[string]string{}
		for _, pair := range label.FindAllStringSubmatch(line[1], -1) {
			labels[pair[1]] = pair[2]
		}
		if !slices.Contains(mutating, labels["verb"]) || labels["resource"] == "leases" || labels["group"] == "flowcontrol.apiserver.k8s.io" {
			continue
		}
		count, err := strconv.Atoi(line[2])
		if err != nil {
			t.Fatal(err)
		}
		counts[fmt.Sprintf("%s %s.%s/%s %s", labels["verb"], labels["resource"], labels["group"], labels["subresource"], labels["code"])] += count
	}
	if len(counts) == 0 {
		t.Fatal("the API server counts no writes at all: is the metric still called apiserver_request_total?")
	}
	return counts
}

func apiServerMetrics(t *testing.T) string {
	t.Helper()
	server, err := rest.HTTPClientFor(testEnv.Config)
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.JoinPath(testEnv.Config.Host, "metrics")
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("read %s: %s %v", address, response.Status, err)
	}
	return string(body)
}

func difference(now, before map[string]int) []string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if more := now[key] - before[key]; more > 0 {
			lines = append(lines, fmt.Sprintf("%d × %s", more, key))
		}
	}
	return lines
}
