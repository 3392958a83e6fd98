package quota

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

var now = time.Unix(1_000_000, 0)

// amounts reads "cpu=1 memory=2Gi".
func amounts(text string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for _, pair := range strings.Fields(text) {
		name, value, _ := strings.Cut(pair, "=")
		list[corev1.ResourceName(name)] = resource.MustParse(value)
	}
	return list
}

func text(list corev1.ResourceList) string { return strings.ReplaceAll(pretty(list), ",", " ") }

func pod(name, requests, limits string) *keelsonv1.Pod {
	return &keelsonv1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Generation: 1},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "c", Resources: corev1.ResourceRequirements{Requests: amounts(requests), Limits: amounts(limits)},
		}}},
	}
}

func ofPod(p *keelsonv1.Pod) Object { return Object{Resource: Pods, Pod: p, Meta: p} }

func ofService(s *keelsonv1.Service) Object { return Object{Resource: Services, Service: s, Meta: s} }

func TestUsage(t *testing.T) {
	ended := pod("a", "cpu=1", "")
	ended.Status.Phase = corev1.PodSucceeded
	stuck := pod("a", "cpu=1", "")
	stuck.DeletionTimestamp = new(metav1.NewTime(now.Add(-31 * time.Second)))
	ending := pod("a", "cpu=1", "")
	ending.DeletionTimestamp = new(metav1.NewTime(now.Add(-10 * time.Second)))
	hurried := ending.DeepCopy()
	hurried.Annotations = map[string]string{keelsonv1.DeletionGracePeriodAnnotation: "5"}
	overhead := pod("a", "cpu=1", "")
	overhead.Spec.Overhead = amounts("cpu=500m")
	ports := []corev1.ServicePort{{NodePort: 30000}, {}}
	claim := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: new("fast"), Resources: corev1.VolumeResourceRequirements{Requests: amounts("storage=5Gi")},
	}}
	for what, tc := range map[string]struct {
		object Object
		want   string
	}{
		"a Pod": {ofPod(pod("a", "cpu=1 memory=1Gi ephemeral-storage=1Gi hugepages-2Mi=4Mi example.org/gpu=2", "cpu=2 memory=2Gi ephemeral-storage=3Gi")),
			"count/pods=1 cpu=1 ephemeral-storage=1Gi hugepages-2Mi=4Mi limits.cpu=2 limits.ephemeral-storage=3Gi limits.memory=2Gi memory=1Gi pods=1 " +
				"requests.cpu=1 requests.ephemeral-storage=1Gi requests.example.org/gpu=2 requests.hugepages-2Mi=4Mi requests.memory=1Gi"},
		"a Pod with overhead":                        {ofPod(overhead), "count/pods=1 cpu=1500m pods=1 requests.cpu=1500m"},
		"one that has ended takes its number":        {ofPod(ended), "count/pods=1"},
		"one that should be gone":                    {ofPod(stuck), "count/pods=1"},
		"one that should be gone, with a short wait": {ofPod(hurried), "count/pods=1"},
		"one that is ending":                         {ofPod(ending), "count/pods=1 cpu=1 pods=1 requests.cpu=1"},
		"a Service":                                  {ofService(&keelsonv1.Service{}), "count/services=1 services=1 services.loadbalancers=0 services.nodeports=0"},
		"node ports": {ofService(&keelsonv1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: ports}}),
			"count/services=1 services=1 services.loadbalancers=0 services.nodeports=2"},
		"a load balancer without node ports but one": {ofService(&keelsonv1.Service{Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Ports: ports, AllocateLoadBalancerNodePorts: new(false)}}),
			"count/services=1 services=1 services.loadbalancers=1 services.nodeports=1"},
		"a claim": {Object{Resource: Claims, Claim: claim, Meta: claim},
			"count/persistentvolumeclaims=1 fast.storageclass.storage.k8s.io/persistentvolumeclaims=1 fast.storageclass.storage.k8s.io/requests.storage=5Gi persistentvolumeclaims=1 requests.storage=5Gi"},
		"a Secret":     {Object{Resource: schema.GroupResource{Resource: "secrets"}}, "count/secrets=1 secrets=1"},
		"a Deployment": {Object{Resource: schema.GroupResource{Group: "apps", Resource: "deployments"}}, "count/deployments.apps=1"},
	} {
		if got := text(tc.object.Usage(now)); got != tc.want {
			t.Errorf("%s takes\n     %s\nwant %s", what, got, tc.want)
		}
	}
}

func TestKind(t *testing.T) {
	for name, want := range map[string]string{
		"pods": "pods", "cpu": "pods", "limits.memory": "pods", "requests.example.org/gpu": "pods", "hugepages-2Mi": "pods", "count/pods": "pods",
		"services.nodeports": "services", "services": "services", "secrets": "secrets", "requests.storage": "persistentvolumeclaims",
		"fast.storageclass.storage.k8s.io/requests.storage": "persistentvolumeclaims", "count/deployments.apps": "deployments.apps", "nonsense": "",
	} {
		got, ok := Kind(corev1.ResourceName(name))
		if got.String() != want || ok != (want != "") {
			t.Errorf("%s is taken by %q (%v), want %q", name, got, ok, want)
		}
	}
}

func quotaOf(hard, used string) *keelsonv1.ResourceQuota {
	q := &keelsonv1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: amounts(hard)}}
	q.Status.Hard, q.Status.Used = amounts(hard), amounts(used)
	return q
}

func TestAdmit(t *testing.T) {
	scoped := func(q *keelsonv1.ResourceQuota, scopes ...corev1.ResourceQuotaScope) *keelsonv1.ResourceQuota {
		q.Spec.Scopes = scopes
		return q
	}
	old := ofPod(pod("a", "cpu=1", ""))
	for what, tc := range map[string]struct {
		quota   *keelsonv1.ResourceQuota
		request Request
		want    string // used afterwards; "" for a quota that stays as it is
		err     string
	}{
		"a Pod that fits":     {quota: quotaOf("pods=2 cpu=2", "pods=1 cpu=1"), request: Request{Object: ofPod(pod("a", "cpu=1", ""))}, want: "cpu=2 pods=2"},
		"one Pod too many":    {quota: quotaOf("pods=2", "pods=2"), request: Request{Object: ofPod(pod("a", "", ""))}, err: "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"},
		"too much of several": {quota: quotaOf("cpu=1 memory=1Gi pods=9", "cpu=1 memory=1Gi pods=1"), request: Request{Object: ofPod(pod("a", "cpu=500m memory=1Gi", ""))}, err: "exceeded quota: q, requested: cpu=500m,memory=1Gi, used: cpu=1,memory=1Gi, limited: cpu=1,memory=1Gi"},
		"a container that names nothing": {quota: quotaOf("limits.cpu=1 requests.memory=1Gi", "limits.cpu=0 requests.memory=0"), request: Request{Object: ofPod(pod("a", "", ""))},
			err: "failed quota: q: must specify limits.cpu for: c; requests.memory for: c"},
		"a quota that is not counted yet":            {quota: quotaOf("pods=2", ""), request: Request{Object: ofPod(pod("a", "", ""))}, err: "status unknown for quota: q, resources: pods"},
		"a quota of other things":                    {quota: quotaOf("secrets=0", "secrets=0"), request: Request{Object: ofPod(pod("a", "", ""))}},
		"a quota of other Pods":                      {quota: scoped(quotaOf("pods=0", "pods=0"), corev1.ResourceQuotaScopeTerminating), request: Request{Object: ofPod(pod("a", "", ""))}},
		"a quota of Pods of its class of service":    {quota: scoped(quotaOf("pods=1", "pods=0"), corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotTerminating), request: Request{Object: ofPod(pod("a", "", ""))}, want: "pods=1"},
		"an update that takes more":                  {quota: quotaOf("cpu=3", "cpu=1"), request: Request{Object: ofPod(pod("a", "cpu=3", "")), Old: &old}, want: "cpu=3"},
		"an update that takes too much":              {quota: quotaOf("cpu=2", "cpu=1"), request: Request{Object: ofPod(pod("a", "cpu=3", "")), Old: &old}, err: "exceeded quota: q, requested: cpu=2, used: cpu=1, limited: cpu=2"},
		"an update that takes less, above the limit": {quota: quotaOf("cpu=500m", "cpu=1"), request: Request{Object: ofPod(pod("a", "cpu=600m", "")), Old: &old}},
		"a Service": {quota: quotaOf("services.nodeports=1", "services.nodeports=0"),
			request: Request{Object: ofService(&keelsonv1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: make([]corev1.ServicePort, 2)}})},
			err:     "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"},
	} {
		t.Run(what, func(t *testing.T) {
			before := tc.quota.DeepCopy()
			changed, err := Admit([]*keelsonv1.ResourceQuota{tc.quota}, tc.request, now)
			if diff := cmp.Diff(before, tc.quota); diff != "" {
				t.Errorf("the quota itself was changed:\n%s", diff)
			}
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tc.err {
				t.Fatalf("error %q\nwant  %q", got, tc.err)
			}
			used := ""
			for _, q := range changed {
				used = text(q.Status.Used)
				again, err := Admit([]*keelsonv1.ResourceQuota{q}, tc.request, now)
				if err != nil || len(again) > 0 {
					t.Errorf("reserved twice: %v, %v", again, err)
				}
			}
			if used != tc.want {
				t.Errorf("used %q, want %q", used, tc.want)
			}
		})
	}
}

func TestAdmitReservesInAllQuotasOrInNone(t *testing.T) {
	changed, err := Admit([]*keelsonv1.ResourceQuota{quotaOf("pods=2", "pods=0"), quotaOf("pods=1", "pods=1")}, Request{Object: ofPod(pod("a", "", ""))}, now)
	if err == nil || len(changed) > 0 {
		t.Errorf("changed %d quotas, error %v", len(changed), err)
	}
}

// An update that was admitted and never stored must not open the door for a larger one.
func TestReservationIsForOneUseOnly(t *testing.T) {
	resized := func(cpu string) Request {
		now, old := pod("a", "cpu="+cpu, ""), ofPod(pod("a", "cpu=1", ""))
		now.Generation = 2
		return Request{Object: ofPod(now), Old: &old}
	}
	changed, err := Admit([]*keelsonv1.ResourceQuota{quotaOf("cpu=3", "cpu=1")}, resized("2"), now)
	if err != nil || len(changed) != 1 {
		t.Fatalf("%d changed, %v", len(changed), err)
	}
	if _, err := Admit(changed, resized("50"), now); err == nil || !strings.HasPrefix(err.Error(), "exceeded quota: q, requested: cpu=49") {
		t.Errorf("a larger update of the same generation: %v", err)
	}
}

func TestCountKnowsWhatIsReserved(t *testing.T) {
	q := quotaOf("pods=9 cpu=9", "pods=1 cpu=1")
	changed, err := Admit([]*keelsonv1.ResourceQuota{q}, Request{Object: ofPod(pod("new", "cpu=2", ""))}, now)
	if err != nil {
		t.Fatal(err)
	}
	q = changed[0]
	seen := []Object{ofPod(pod("old", "cpu=1", ""))}
	if c := Count(q, seen, now.Add(time.Second)); text(c.Used) != "cpu=3 pods=2" || len(c.Pending) != 1 || c.Next != Pending-time.Second {
		t.Errorf("before it is seen: %s, %d pending, next in %v", text(c.Used), len(c.Pending), c.Next)
	}
	seen = append(seen, ofPod(pod("new", "cpu=2", "")))
	if c := Count(q, seen, now.Add(time.Second)); text(c.Used) != "cpu=3 pods=2" || len(c.Pending) != 0 || c.Next != 0 {
		t.Errorf("once it is seen: %s, %d pending, next in %v", text(c.Used), len(c.Pending), c.Next)
	}
	if c := Count(q, seen[:1], now.Add(Pending)); text(c.Used) != "cpu=1 pods=1" || len(c.Pending) != 0 {
		t.Errorf("when nothing came of it: %s, %d pending", text(c.Used), len(c.Pending))
	}

	resized := pod("new", "cpu=5", "")
	resized.Generation = 2
	old := seen[1]
	if changed, err = Admit([]*keelsonv1.ResourceQuota{q}, Request{Object: ofPod(resized), Old: &old}, now); err != nil {
		t.Fatal(err)
	}
	if c := Count(changed[0], seen, now.Add(time.Second)); text(c.Used) != "cpu=6 pods=2" || len(c.Pending) != 1 {
		t.Errorf("before the new size is seen: %s, %d pending", text(c.Used), len(c.Pending))
	}
	seen[1] = ofPod(resized)
	if c := Count(changed[0], seen, now.Add(time.Second)); text(c.Used) != "cpu=6 pods=2" || len(c.Pending) != 0 {
		t.Errorf("once the new size is seen: %s, %d pending", text(c.Used), len(c.Pending))
	}
}

func TestCountComesBackWhenAPodShouldBeGone(t *testing.T) {
	ending := pod("a", "", "")
	ending.DeletionTimestamp = new(metav1.NewTime(now.Add(-10 * time.Second)))
	if c := Count(quotaOf("pods=1", ""), []Object{ofPod(ending)}, now); c.Next != 20*time.Second || text(c.Used) != "pods=1" {
		t.Errorf("next in %v, used %s", c.Next, text(c.Used))
	}
}

func TestScopes(t *testing.T) {
	in := func(scope corev1.ResourceQuotaScope, operator corev1.ScopeSelectorOperator, values ...string) *keelsonv1.ResourceQuota {
		q := quotaOf("pods=1", "pods=0")
		q.Spec.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: scope, Operator: operator, Values: values}}}
		return q
	}
	high, far := pod("a", "", ""), pod("a", "", "")
	high.Spec.PriorityClassName = "high"
	far.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
		PodAffinityTerm: corev1.PodAffinityTerm{Namespaces: []string{"other"}}}}}}
	class := corev1.ResourceQuotaScopePriorityClass
	for what, tc := range map[string]struct {
		quota *keelsonv1.ResourceQuota
		pod   *keelsonv1.Pod
		want  bool
	}{
		"a class in the list":        {in(class, corev1.ScopeSelectorOpIn, "high", "low"), high, true},
		"a class not in the list":    {in(class, corev1.ScopeSelectorOpIn, "low"), high, false},
		"no class, not in the list":  {in(class, corev1.ScopeSelectorOpNotIn, "low"), pod("a", "", ""), true},
		"any class":                  {in(class, corev1.ScopeSelectorOpExists), high, true},
		"no class where one is due":  {in(class, corev1.ScopeSelectorOpExists), pod("a", "", ""), false},
		"no class":                   {in(class, corev1.ScopeSelectorOpDoesNotExist), pod("a", "", ""), true},
		"affinity across Namespaces": {in(corev1.ResourceQuotaScopeCrossNamespacePodAffinity, corev1.ScopeSelectorOpExists), far, true},
		"no such affinity":           {in(corev1.ResourceQuotaScopeCrossNamespacePodAffinity, corev1.ScopeSelectorOpExists), high, false},
		"with requests":              {in(corev1.ResourceQuotaScopeNotBestEffort, corev1.ScopeSelectorOpExists), pod("a", "cpu=1", ""), true},
	} {
		if got := Matches(tc.quota, ofPod(tc.pod)); got != tc.want {
			t.Errorf("%s: %v, want %v", what, got, tc.want)
		}
	}
}

// Whatever is admitted, stored, seen and deleted in whatever order: what is used never
// passes the limit, and never is less than what is there.
func TestNeverAboveTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 3
		q := quotaOf(fmt.Sprintf("pods=%d", limit), "pods=0")
		admitted, stored, seen := map[string]Object{}, map[string]Object{}, map[string]Object{}
		clock := now
		for step := range 60 {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0: // admission
				o := ofPod(pod(fmt.Sprint(step), "", ""))
				if changed, err := Admit([]*keelsonv1.ResourceQuota{q}, Request{Object: o}, clock); err == nil && len(changed) == 1 {
					q, admitted[o.Pod.Name] = changed[0], o
				}
			case 1: // storage
				for name, o := range admitted {
					stored[name] = o
					delete(admitted, name)
					break
				}
			case 2: // the cache catches up
				seen = map[string]Object{}
				for name, o := range stored {
					seen[name] = o
				}
			case 3: // deletion
				for name := range stored {
					delete(stored, name)
					break
				}
			case 4: // count
				var objects []Object
				for _, o := range seen {
					objects = append(objects, o)
				}
				next := q.DeepCopy()
				next.Status = Count(q, objects, clock).Status(q)
				q = next
			}
			if len(stored)+len(admitted) > limit {
				t.Fatalf("%d Pods are stored or on their way, the limit is %d", len(stored)+len(admitted), limit)
			}
		}
	})
}
