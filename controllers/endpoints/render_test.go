package endpoints

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

func TestTruncateSubsetsKeepsReadyAddressesFirst(t *testing.T) {
	tests := map[string]struct {
		in      [][2]int
		want    [][2]int
		wantCut bool
	}{
		"at the limit nothing is cut": {in: [][2]int{{600, 400}}, want: [][2]int{{600, 400}}},
		"unready ones go first":       {in: [][2]int{{600, 500}}, want: [][2]int{{600, 400}}, wantCut: true},
		"too many ready ones: no unready one stays": {
			in: [][2]int{{1500, 10}}, want: [][2]int{{1000, 0}}, wantCut: true,
		},
		"each subset loses its share": {
			in: [][2]int{{800, 0}, {1200, 50}}, want: [][2]int{{400, 0}, {600, 0}}, wantCut: true,
		},
		"shares are rounded up and the last one pays": {
			in: [][2]int{{1, 0}, {1, 0}, {1100, 0}}, want: [][2]int{{1, 0}, {1, 0}, {998, 0}}, wantCut: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var subsets []corev1.EndpointSubset
			for _, n := range tc.in {
				subsets = append(subsets, corev1.EndpointSubset{Addresses: addresses(n[0]), NotReadyAddresses: addresses(n[1])})
			}
			kept, cut := truncateSubsets(subsets)
			var got [][2]int
			for _, s := range kept {
				got = append(got, [2]int{len(s.Addresses), len(s.NotReadyAddresses)})
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || cut != tc.wantCut {
				t.Errorf("cut %t, want %t; sizes (-want +got):\n%s", cut, tc.wantCut, diff)
			}
		})
	}
}

func TestRenderEndpointsLabelsAndAnnotations(t *testing.T) {
	current := &keelsonv1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Labels:      map[string]string{"stale": "label", corev1.IsHeadlessService: ""},
		Annotations: map[string]string{"others": "stay", corev1.EndpointsOverCapacity: truncated},
	}}
	got := renderEndpoints(service().Label("team", "a").Obj(), current, nil)
	if diff := cmp.Diff(map[string]string{"team": "a", ManagedByLabel: managedByValue}, got.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"others": "stay"}, got.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if got.Status.Summary.Endpoints != "<none>" {
		t.Errorf("summary %q, want <none>", got.Status.Summary.Endpoints)
	}

	headless := renderEndpoints(builders.MakeService("web").Headless().Obj(), &keelsonv1.Endpoints{},
		[]corev1.EndpointSubset{{Addresses: addresses(maxAddresses + 1)}})
	if _, ok := headless.Labels[corev1.IsHeadlessService]; !ok {
		t.Error("the Endpoints of a headless Service lack their label")
	}
	fresh := renderEndpoints(builders.MakeService("web").Obj(), &keelsonv1.Endpoints{}, nil)
	if _, ok := fresh.Labels[corev1.IsHeadlessService]; ok {
		t.Error("a Service that has no address yet counts as headless")
	}
	if headless.Annotations[corev1.EndpointsOverCapacity] != truncated {
		t.Error("truncated Endpoints lack their annotation")
	}
}

func addresses(n int) []corev1.EndpointAddress {
	var out []corev1.EndpointAddress
	for i := range n {
		out = append(out, corev1.EndpointAddress{IP: fmt.Sprintf("10.%d.%d.1", i/256, i%256)})
	}
	return out
}
