package endpointslicemirroring

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

func addresses(ips ...string) []corev1.EndpointAddress {
	var all []corev1.EndpointAddress
	for _, ip := range ips {
		all = append(all, corev1.EndpointAddress{IP: ip})
	}
	return all
}

func ports(numbers ...int32) []corev1.EndpointPort {
	var all []corev1.EndpointPort
	for _, n := range numbers {
		all = append(all, corev1.EndpointPort{Name: fmt.Sprint("p", n), Port: n})
	}
	return all
}

func endpoints(subsets ...corev1.EndpointSubset) *keelsonv1.Endpoints {
	return &keelsonv1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default", UID: "e1", Labels: map[string]string{"team": "a"}, Annotations: map[string]string{
			"note": "b", corev1.EndpointsLastChangeTriggerTime: "x",
		}},
		Subsets: subsets,
	}
}

// world is what the API holds: the slices by name.
type world struct {
	slices map[string]*discoveryv1.EndpointSlice
	made   int
}

// apply does what a plan says and counts.
func (w *world) apply(p plan) string {
	for _, s := range p.create {
		w.made++
		s.Name = fmt.Sprintf("%s%02d", s.GenerateName, w.made)
		w.slices[s.Name] = s
	}
	for _, u := range p.update {
		w.slices[u.to.Name] = u.to
	}
	for _, s := range p.remove {
		delete(w.slices, s.Name)
	}
	return fmt.Sprintf("+%d ~%d -%d", len(p.create), len(p.update), len(p.remove))
}

func (w *world) existing() []*discoveryv1.EndpointSlice {
	var all []*discoveryv1.EndpointSlice
	for _, s := range w.slices {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (w *world) sync(e *keelsonv1.Endpoints) string {
	groups, _ := computeGroups(e.Subsets)
	return w.apply(makePlan(e, groups, w.existing()))
}

// show writes one line for each slice: "db-01 IPv4 80: 10.0.0.1 ready, 10.0.0.2".
func (w *world) show() []string {
	var lines []string
	for _, s := range w.existing() {
		var all []string
		for _, e := range s.Endpoints {
			text := e.Addresses[0]
			if *e.Conditions.Ready {
				text += " ready"
			}
			all = append(all, text)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s: %s", s.Name, s.AddressType, s.Status.Summary.Ports, strings.Join(all, ", ")))
	}
	return lines
}

// The stories are upstream's cases: how mirrors follow their Endpoints.
func TestMirrorsFollowTheirEndpoints(t *testing.T) {
	type step struct {
		subsets []corev1.EndpointSubset
		writes  string
		want    []string
	}
	both := corev1.EndpointSubset{Addresses: addresses("10.0.0.1", "fd00::1"), NotReadyAddresses: addresses("10.0.0.2"), Ports: ports(80)}
	for name, steps := range map[string][]step{
		"nothing to mirror is no slice": {{nil, "+0 ~0 -0", nil}},
		"one slice for each family, which stay as they are": {
			{[]corev1.EndpointSubset{both}, "+2 ~0 -0", []string{"db-01 IPv4 80: 10.0.0.1 ready, 10.0.0.2", "db-02 IPv6 80: fd00::1 ready"}},
			{[]corev1.EndpointSubset{both}, "+0 ~0 -0", []string{"db-01 IPv4 80: 10.0.0.1 ready, 10.0.0.2", "db-02 IPv6 80: fd00::1 ready"}},
		},
		"an address more is one write": {
			{[]corev1.EndpointSubset{{Addresses: addresses("10.0.0.1"), Ports: ports(80)}}, "+1 ~0 -0", []string{"db-01 IPv4 80: 10.0.0.1 ready"}},
			{[]corev1.EndpointSubset{{Addresses: addresses("10.0.0.1", "10.0.0.3"), Ports: ports(80)}}, "+0 ~1 -0", []string{"db-01 IPv4 80: 10.0.0.1 ready, 10.0.0.3 ready"}},
		},
		"other ports take the slice over": {
			{[]corev1.EndpointSubset{{Addresses: addresses("10.0.0.1"), Ports: ports(80)}}, "+1 ~0 -0", []string{"db-01 IPv4 80: 10.0.0.1 ready"}},
			{[]corev1.EndpointSubset{{Addresses: addresses("10.0.0.1"), Ports: ports(81)}}, "+0 ~1 -0", []string{"db-01 IPv4 81: 10.0.0.1 ready"}},
		},
		"subsets that mean one are one slice": {
			{[]corev1.EndpointSubset{{Addresses: addresses("10.0.0.1"), Ports: ports(80)}, {Addresses: addresses("10.0.0.1"), Ports: ports(443)}}, "+1 ~0 -0",
				[]string{"db-01 IPv4 80,443: 10.0.0.1 ready"}},
		},
		"an address without ports is mirrored without": {
			{[]corev1.EndpointSubset{{Addresses: addresses("10.0.0.1")}}, "+1 ~0 -0", []string{"db-01 IPv4 <unset>: 10.0.0.1 ready"}},
		},
		"the last address takes its slice along": {
			{[]corev1.EndpointSubset{both}, "+2 ~0 -0", []string{"db-01 IPv4 80: 10.0.0.1 ready, 10.0.0.2", "db-02 IPv6 80: fd00::1 ready"}},
			{[]corev1.EndpointSubset{{Addresses: addresses("fd00::1"), Ports: ports(80)}}, "+0 ~0 -1", []string{"db-02 IPv6 80: fd00::1 ready"}},
			{nil, "+0 ~0 -1", nil},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{slices: map[string]*discoveryv1.EndpointSlice{}}
			for i, step := range steps {
				if got := w.sync(endpoints(step.subsets...)); got != step.writes {
					t.Errorf("step %d: writes %s, want %s", i, got, step.writes)
				}
				if diff := cmp.Diff(step.want, w.show()); diff != "" {
					t.Errorf("step %d: slices (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

func TestMirrorsSayWhoseTheyAre(t *testing.T) {
	w := &world{slices: map[string]*discoveryv1.EndpointSlice{}}
	e := endpoints(corev1.EndpointSubset{
		Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1", Hostname: "h", NodeName: new("n"), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p"}}},
		Ports:     []corev1.EndpointPort{{Name: "http", Port: 80, Protocol: corev1.ProtocolUDP, AppProtocol: new("dns")}},
	})
	w.sync(e)
	got := w.slices["db-01"]
	wantLabels := map[string]string{"team": "a", upstreamdiscoveryv1.LabelServiceName: "db", upstreamdiscoveryv1.LabelManagedBy: ManagedBy}
	if diff := cmp.Diff(wantLabels, got.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"note": "b"}, got.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	wantEndpoint := []upstreamdiscoveryv1.Endpoint{{
		Addresses: []string{"10.0.0.1"}, Conditions: upstreamdiscoveryv1.EndpointConditions{Ready: new(true)},
		Hostname: new("h"), NodeName: new("n"), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p"},
	}}
	if diff := cmp.Diff(wantEndpoint, got.Endpoints); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	wantPorts := []upstreamdiscoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(80)), Protocol: new(corev1.ProtocolUDP), AppProtocol: new("dns")}}
	if diff := cmp.Diff(wantPorts, got.Ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	// Endpoints of the same name that were made again take the mirror over.
	e.UID = "e2"
	if writes := w.sync(e); writes != "+0 ~1 -0" || w.slices["db-01"].OwnerReferences[0].UID != "e2" {
		t.Errorf("writes %s, owner %v", writes, w.slices["db-01"].OwnerReferences)
	}
}

func TestAddressesThatAreNotMirroredAreCounted(t *testing.T) {
	var many []string
	for i := range maxAddresses + 7 {
		many = append(many, fmt.Sprintf("10.1.%d.%d", i/250, i%250))
	}
	groups, left := computeGroups([]corev1.EndpointSubset{{Addresses: addresses(append(many, "nowhere")...), Ports: ports(80)}})
	if left != (skipped{invalid: 1, tooMany: 7}) || len(groups[0].endpoints) != maxAddresses {
		t.Errorf("left out %+v, mirrored %d", left, len(groups[0].endpoints))
	}
}

func TestWhatWantsNoMirror(t *testing.T) {
	e := endpoints()
	if !wantsMirror(e) {
		t.Error("plain Endpoints are not mirrored")
	}
	e.Annotations[resourcelock.LeaderElectionRecordAnnotationKey] = "{}"
	if wantsMirror(e) {
		t.Error("a lock is mirrored")
	}
	delete(e.Annotations, resourcelock.LeaderElectionRecordAnnotationKey)
	e.Labels[upstreamdiscoveryv1.LabelSkipMirror] = "true"
	if wantsMirror(e) {
		t.Error("Endpoints that ask not to be are mirrored")
	}
}

// Whatever Endpoints say, one pass makes the mirrors say the same, and a second one finds
// nothing to do; not even duplicates, which a lost answer leaves behind, stay.
func TestOnePassIsEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{slices: map[string]*discoveryv1.EndpointSlice{}}
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			var subsets []corev1.EndpointSubset
			want := map[string]bool{}
			for range rapid.IntRange(0, 3).Draw(t, "subsets") {
				port := int32(rapid.IntRange(1, 3).Draw(t, "port"))
				ip := rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "fd00::1"}).Draw(t, "ip")
				subsets = append(subsets, corev1.EndpointSubset{Addresses: addresses(ip), Ports: ports(port)})
				want[fmt.Sprint(ip, " ", port)] = true
			}
			if len(w.slices) > 0 && rapid.Bool().Draw(t, "duplicate") {
				copied := w.existing()[0].DeepCopy()
				copied.Name = "db-copy"
				w.slices[copied.Name] = copied
			}
			w.sync(endpoints(subsets...))
			got := map[string]bool{}
			for _, s := range w.existing() {
				for _, e := range s.Endpoints {
					for _, p := range s.Ports {
						pair := fmt.Sprint(e.Addresses[0], " ", *p.Port)
						if got[pair] {
							t.Fatalf("%s is listed twice: %v", pair, w.show())
						}
						got[pair] = true
					}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("pairs (-want +got):\n%s", diff)
			}
			if writes := w.sync(endpoints(subsets...)); writes != "+0 ~0 -0" {
				t.Fatalf("a second pass writes: %s", writes)
			}
		}
	})
}
