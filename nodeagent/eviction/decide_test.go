package eviction

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func quantity(text string) Value { return Value{Quantity: new(resource.MustParse(text))} }

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		settings Settings
		want     []Threshold
		// wantErrors are parts of the error, all of them at once.
		wantErrors []string
	}{
		"nothing": {},
		"amounts and percentages, in a fixed order": {
			settings: Settings{Hard: map[string]string{"nodefs.available": "10%", "memory.available": "150Mi", "imagefs.inodesFree": "5%"}},
			want: []Threshold{
				{Signal: ImageFsInodesFree, Value: Value{Share: 0.05}},
				{Signal: MemoryAvailable, Value: quantity("150Mi")},
				{Signal: NodeFsAvailable, Value: Value{Share: 0.1}},
			},
		},
		"soft ones with their grace, and what is to be reclaimed": {
			settings: Settings{
				Hard: map[string]string{"memory.available": "150Mi"}, Soft: map[string]string{"memory.available": "300Mi"},
				SoftGracePeriod: map[string]string{"memory.available": "30s"}, MinimumReclaim: map[string]string{"memory.available": "10%"},
			},
			want: []Threshold{
				{Signal: MemoryAvailable, Value: quantity("150Mi"), MinReclaim: Value{Share: 0.1}},
				{Signal: MemoryAvailable, Value: quantity("300Mi"), Grace: 30 * time.Second, MinReclaim: Value{Share: 0.1}},
			},
		},
		"0% and 100% switch a signal off": {settings: Settings{Hard: map[string]string{"memory.available": "0%", "nodefs.available": "100%"}}},
		"everything that is wrong": {
			settings: Settings{
				Hard:            map[string]string{"mem.available": "1Gi", "memory.available": "-1Mi", "nodefs.available": "-5%", "imagefs.available": "101%"},
				Soft:            map[string]string{"memory.available": "0", "pid.available": "10"},
				SoftGracePeriod: map[string]string{"nodefs.available": "-1s", "imagefs.available": "soon"},
				MinimumReclaim:  map[string]string{"memory.available": "-1", "nodefs.available": "0%", "mem.available": "1"},
			},
			wantErrors: []string{
				"--eviction-hard: unsupported eviction signal mem.available",
				"--eviction-hard: eviction threshold memory.available must be positive: -1Mi",
				"--eviction-hard: eviction percentage threshold nodefs.available must be >= 0%: -5%",
				"--eviction-hard: eviction percentage threshold imagefs.available must be <= 100%: 101%",
				"--eviction-soft: eviction threshold memory.available must be positive: 0",
				"--eviction-soft-grace-period: grace period must be specified for the soft eviction threshold pid.available",
				"--eviction-soft-grace-period: invalid eviction grace period specified: -1s, must be a positive value",
				`--eviction-soft-grace-period: time: invalid duration "soon"`,
				"--eviction-minimum-reclaim: negative eviction minimum reclaim specified for memory.available",
				"--eviction-minimum-reclaim: eviction percentage minimum reclaim nodefs.available must be positive: 0%",
				"--eviction-minimum-reclaim: unsupported eviction signal mem.available",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(test.settings)
			for _, part := range test.wantErrors {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error %v, want %q in it", err, part)
				}
			}
			if test.wantErrors != nil {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.Comparer(func(a, b float64) bool { return a-b < 1e-6 && b-a < 1e-6 })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	const mib = 1 << 20
	hard := Threshold{Signal: MemoryAvailable, Value: quantity("100Mi"), MinReclaim: quantity("50Mi")}
	soft := Threshold{Signal: MemoryAvailable, Value: quantity("200Mi"), Grace: time.Minute}
	disk := Threshold{Signal: NodeFsAvailable, Value: Value{Share: 0.1}}
	type look struct {
		after          time.Duration
		memory, disk   int64 // MiB available of 1000; 0 for "not observed"
		wantConditions []corev1.NodeConditionType
		wantActive     []Threshold
	}
	memoryOnly, diskOnly := []corev1.NodeConditionType{corev1.NodeMemoryPressure}, []corev1.NodeConditionType{corev1.NodeDiskPressure}
	for name, story := range map[string]struct {
		thresholds []Threshold
		looks      []look
	}{
		"enough of everything":               {[]Threshold{hard, soft, disk}, []look{{memory: 500, disk: 500}}},
		"what was not observed is not short": {[]Threshold{hard, soft, disk}, []look{{}}},
		"exactly the threshold is enough":    {[]Threshold{hard, disk}, []look{{memory: 100, disk: 100}}},
		"a hard threshold acts at once":      {[]Threshold{hard}, []look{{memory: 99, wantConditions: memoryOnly, wantActive: []Threshold{hard}}}},
		"a soft one after its grace": {[]Threshold{hard, soft}, []look{
			{memory: 199, wantConditions: memoryOnly},
			{after: 59 * time.Second, memory: 150, wantConditions: memoryOnly},
			{after: time.Second, memory: 150, wantConditions: memoryOnly, wantActive: []Threshold{soft}},
		}},
		"the grace begins anew when it was enough meanwhile": {[]Threshold{soft}, []look{
			{memory: 199, wantConditions: memoryOnly},
			{after: 59 * time.Second, memory: 200, wantConditions: memoryOnly},
			{after: time.Second, memory: 150, wantConditions: memoryOnly},
		}},
		"the shortage lasts until the minimum reclaim is free as well": {[]Threshold{hard}, []look{
			{memory: 99, wantConditions: memoryOnly, wantActive: []Threshold{hard}},
			{after: time.Second, memory: 149, wantConditions: memoryOnly, wantActive: []Threshold{hard}},
			{after: time.Second, memory: 150, wantConditions: memoryOnly},
			{after: time.Second, memory: 149, wantConditions: memoryOnly},
		}},
		"the condition stays for the transition period": {[]Threshold{disk}, []look{
			{disk: 99, wantConditions: diskOnly, wantActive: []Threshold{disk}},
			{after: 299 * time.Second, disk: 500, wantConditions: diskOnly},
			{after: time.Second, disk: 500},
		}},
		"memory before disk, hard and soft together": {[]Threshold{disk, hard, soft}, []look{
			{memory: 99, disk: 99, wantConditions: []corev1.NodeConditionType{corev1.NodeDiskPressure, corev1.NodeMemoryPressure}, wantActive: []Threshold{hard, disk}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			var state memory
			for i, l := range story.looks {
				now = now.Add(l.after)
				seen := Observations{}
				if l.memory > 0 {
					seen[MemoryAvailable] = Observation{l.memory * mib, 1000 * mib}
				}
				if l.disk > 0 {
					seen[NodeFsAvailable] = Observation{l.disk * mib, 1000 * mib}
				}
				var got verdict
				got, state = decide(state, story.thresholds, seen, 5*time.Minute, now)
				if diff := cmp.Diff(verdict{l.wantConditions, l.wantActive}, got); diff != "" {
					t.Errorf("look %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}
