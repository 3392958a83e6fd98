package manager

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestDefaultsAreValid(t *testing.T) {
	if err := NewOptions().Validate(); err != nil {
		t.Error(err)
	}
}

func TestTwoFamiliesAreValid(t *testing.T) {
	o := NewOptions()
	o.ClusterCIDR, o.ServiceCIDR = "fd00:10:244::/56,10.244.0.0/16", "10.254.0.0/16,fd00:10:254::/112"
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	if v4, v6 := o.maskSizes(); v4 != 24 || v6 != 64 {
		t.Errorf("mask sizes %d and %d", v4, v6)
	}
}

func TestValidateNamesTheFlag(t *testing.T) {
	tests := map[string]struct {
		change func(*Options)
		want   []string
	}{
		"a mode nobody knows":              {func(o *Options) { o.Mode = "both" }, []string{"--mode"}},
		"a controller nobody knows":        {func(o *Options) { o.Controllers = []string{"*", "-nonsense"} }, []string{"--controllers", "nonsense", "scheduler"}},
		"a service range that is none":     {func(o *Options) { o.ServiceCIDR = "10.0.0.0" }, []string{"--service-cidr"}},
		"a service range of IPv6":          {func(o *Options) { o.ServiceCIDR = "fd00::/108" }, []string{"--service-cidr", "IPv4"}},
		"a service range of one address":   {func(o *Options) { o.ServiceCIDR = "10.0.0.0/32" }, []string{"--service-cidr", "size"}},
		"a range with host bits":           {func(o *Options) { o.ClusterCIDR = "10.244.0.1/16" }, []string{"--cluster-cidr", "10.244.0.0/16"}},
		"ranges that overlap":              {func(o *Options) { o.ServiceCIDR = "10.244.8.0/24" }, []string{"--service-cidr", "overlaps --cluster-cidr"}},
		"a mask shorter than the range":    {func(o *Options) { o.NodeCIDRMaskSize = 15 }, []string{"--node-cidr-mask-size", "16-30"}},
		"an IPv6 mask without a range":     {func(o *Options) { o.NodeCIDRMaskSizeIPv6 = 64 }, []string{"--node-cidr-mask-size-ipv6", "no IPv6 range"}},
		"one mask for two families":        {func(o *Options) { o.ClusterCIDR, o.NodeCIDRMaskSize = "10.244.0.0/16,fd00::/56", 24 }, []string{"--node-cidr-mask-size: is not allowed in dual-stack"}},
		"an IPv4 mask out of range":        {func(o *Options) { o.NodeCIDRMaskSizeIPv4 = 31 }, []string{"--node-cidr-mask-size-ipv4: 31 is outside 16-30"}},
		"two masks that differ":            {func(o *Options) { o.NodeCIDRMaskSizeIPv4, o.NodeCIDRMaskSize = 25, 24 }, []string{"--node-cidr-mask-size-ipv4", "contradicts"}},
		"more IPv6 ranges than upstream":   {func(o *Options) { o.ClusterCIDR = "10.244.0.0/16,fd00::/40" }, []string{"--node-cidr-mask-size-ipv6: 64 is outside 40-56"}},
		"Services of a family of no Pod":   {func(o *Options) { o.ServiceCIDR = "10.254.0.0/16,fd01::/112" }, []string{"--service-cidr", "lacks"}},
		"no port at all":                   {func(o *Options) { o.NodePortRange = "0-0" }, []string{"--node-port-range"}},
		"ports that are words":             {func(o *Options) { o.NodePortRange = "a-b" }, []string{"--node-port-range"}},
		"API servers that nobody names":    {func(o *Options) { o.KubernetesServiceRegisteredOnly = true }, []string{"--kubernetes-service-registered-only"}},
		"an endpoint without a port":       {func(o *Options) { o.KubernetesServiceEndpoints = []string{"10.0.0.1"} }, []string{"--kubernetes-service-endpoints"}},
		"a lease shorter than its renewal": {func(o *Options) { o.LeaderElection.LeaseDuration.Duration = time.Second }, []string{"--leader-elect-lease-duration"}},
		"a renewal without a second try":   {func(o *Options) { o.LeaderElection.RetryPeriod.Duration = 9 * time.Second }, []string{"--leader-elect-renew-deadline"}},
		"a webhook over plain HTTP":        {func(o *Options) { o.Webhook.URL = "http://localhost:1" }, []string{"--webhook-url"}},
		"a webhook port out of range":      {func(o *Options) { o.Webhook.Port = 0 }, []string{"--webhook-port"}},
		"a negative rate":                  {func(o *Options) { o.NodeEvictionRate = -1 }, []string{"--node-eviction-rate"}},
		"more than all nodes":              {func(o *Options) { o.UnhealthyZoneThreshold = 55 }, []string{"--unhealthy-zone-threshold"}},
		"no grace":                         {func(o *Options) { o.NodeMonitorGracePeriod.Duration = 0 }, []string{"--node-monitor-grace-period"}},
		"several at once": {func(o *Options) { o.Mode, o.SchedulerName, o.HealthBindAddress = "x", "", "nowhere" },
			[]string{"--mode", "--scheduler-name", "--health-bind-address"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := NewOptions()
			tc.change(o)
			err := o.Validate()
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not mention %q", err, want)
				}
			}
		})
	}
}

func TestControllersAreSwitched(t *testing.T) {
	without := func(remove ...string) []string {
		return slices.DeleteFunc(names(), func(name string) bool { return slices.Contains(remove, name) })
	}
	tests := map[string]struct {
		mode    Mode
		entries []string
		want    []string
	}{
		"everything":                         {Standalone, []string{"*"}, names()},
		"everything but one":                 {Standalone, []string{"*", "-scheduler"}, without("scheduler")},
		"one only":                           {Standalone, []string{"scheduler"}, []string{"scheduler"}},
		"nothing":                            {Standalone, nil, nil},
		"the last word counts":               {Standalone, []string{"-scheduler", "scheduler"}, []string{"scheduler"}},
		"a guest leaves hygiene to its host": {Guest, []string{"*"}, without(hygieneNames()...)},
		"a guest told otherwise":             {Guest, []string{"*", "namespace"}, without(slices.DeleteFunc(hygieneNames(), func(name string) bool { return name == "namespace" })...)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := NewOptions()
			o.Mode, o.Controllers = tc.mode, tc.entries
			var got []string
			for _, c := range controllers() {
				if o.enabled(c) {
					got = append(got, c.name)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("enabled (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]int{}
	for _, name := range names() {
		seen[name]++
	}
	for name := range maps.Keys(seen) {
		if seen[name] > 1 {
			t.Errorf("%s is there %d times", name, seen[name])
		}
	}
}

func TestCacheKeepsOnlyWhatIsRead(t *testing.T) {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name:          "p",
		Annotations:   map[string]string{corev1.LastAppliedConfigAnnotation: "{...}", "keep": "me"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
	}, Spec: corev1.PodSpec{NodeName: "n"}}
	got, err := stripUnread(pod)
	if err != nil {
		t.Fatal(err)
	}
	want := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{"keep": "me"}}, Spec: corev1.PodSpec{NodeName: "n"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cached (-want +got):\n%s", diff)
	}
	if passed, err := stripUnread("not an object"); err != nil || passed != "not an object" {
		t.Errorf("got %v, %v", passed, err)
	}
}

func TestCacheKeepsWhoAppliedAPodThatWaits(t *testing.T) {
	updated := []metav1.ManagedFieldsEntry{{Manager: "keelson-manager", Operation: metav1.ManagedFieldsOperationUpdate}}
	applied := append(slices.Clone(updated), metav1.ManagedFieldsEntry{Manager: "mesh", Operation: metav1.ManagedFieldsOperationApply})
	byKubectl := map[string]string{corev1.LastAppliedConfigAnnotation: "{}"}
	for name, tc := range map[string]struct {
		in          client.Object
		fields      []metav1.ManagedFieldsEntry
		annotations map[string]string
		wantKept    bool
	}{
		"a Pod without a node that was applied":     {&keelsonv1.Pod{}, applied, nil, true},
		"a Pod without a node that kubectl applied": {&keelsonv1.Pod{}, updated, byKubectl, true},
		"a Pod without a node that nobody applied":  {&keelsonv1.Pod{}, updated, nil, false},
		"a Pod with a node":                         {&keelsonv1.Pod{Spec: corev1.PodSpec{NodeName: "n"}}, applied, byKubectl, false},
		"an object that is no Pod":                  {&keelsonv1.Node{}, applied, byKubectl, false},
	} {
		tc.in.SetManagedFields(slices.Clone(tc.fields))
		tc.in.SetAnnotations(maps.Clone(tc.annotations))
		got, err := stripUnread(tc.in)
		if err != nil {
			t.Fatal(err)
		}
		o := got.(client.Object)
		if kept := len(o.GetManagedFields()) > 0; kept != tc.wantKept {
			t.Errorf("%s: managedFields kept: %t, want %t", name, kept, tc.wantKept)
		}
		if kept := len(o.GetAnnotations()) > 0; kept != (tc.wantKept && tc.annotations != nil) {
			t.Errorf("%s: annotations are %v", name, o.GetAnnotations())
		}
	}
}
