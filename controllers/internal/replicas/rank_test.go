package replicas

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// running is a ready Pod on a node, alike in everything but its name.
func running(name string) *builders.PodBuilder {
	return mine(name).Node("n-" + name).Created(now.Add(-time.Hour)).Ready(now.Add(-time.Hour))
}

// In each case the first Pod goes before the second. The criteria are in upstream's
// order; each case holds everything before it equal and makes what follows argue for
// the other Pod where it can.
func TestTheFirstIsDeletedBeforeTheSecond(t *testing.T) {
	day, hour := now.Add(-24*time.Hour), now.Add(-time.Hour)
	tests := map[string][2]*builders.PodBuilder{
		"without a node before with one": {
			mine("a").Created(day).DeletionCost(100), mine("b").Node("n").Created(hour),
		},
		"pending before running": {
			mine("a").Node("n").Phase(corev1.PodPending).DeletionCost(9), mine("b").Node("n").NotReady(),
		},
		"pending before unknown": {
			mine("a").Node("n").Phase(corev1.PodPending), mine("b").Node("n").Phase(corev1.PodUnknown),
		},
		"unknown before running": {
			mine("a").Node("n").Phase(corev1.PodUnknown), mine("b").Node("n").Phase(corev1.PodRunning),
		},
		"a Pod without a phase is pending": {
			mine("a").Node("n"), mine("b").Node("n").Phase(corev1.PodRunning),
		},
		"not ready before ready": {
			mine("a").Node("n").NotReady().DeletionCost(9), running("b"),
		},
		"cheap before expensive": {
			running("a").DeletionCost(-1), running("b").Ready(now.Add(-time.Minute)),
		},
		"a cost that is no number is 0": {
			running("a").Annotation(corev1.PodDeletionCost, "+5"), running("b").DeletionCost(1),
		},
		"on a crowded node before alone": {
			running("a").Node("crowded"), running("b").Node("alone").Ready(now.Add(-time.Minute)),
		},
		"ready for a minute before ready for a day": {
			running("a").Ready(now.Add(-time.Minute)).Restarts(0), running("b").Ready(day).Restarts(5),
		},
		"a ready Pod without a time before one with": {
			running("a").Ready(time.Time{}), running("b"),
		},
		"restarted often before seldom": {
			running("a").Restarts(5).Created(day), running("b").Restarts(1).Created(hour),
		},
		"young before old": {
			running("a").Created(now.Add(-time.Minute)), running("b").Created(day),
		},
		"of about the same age: the UID decides": {
			running("a").Created(now.Add(-61 * time.Minute)), running("b").Created(now.Add(-60 * time.Minute)),
		},
		"one without a creation time first": {
			running("z").Created(time.Time{}), running("b"),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			first, second := tc[0].Obj(), tc[1].Obj()
			// A third Pod fills the crowded node, and is never the victim.
			third := running("keep").Node("crowded").DeletionCost(1000).Obj()
			for _, order := range [][]*keelsonv1.Pod{{first, second, third}, {third, second, first}} {
				victims := planVictims(order, nil, 1, now)
				if victims[0].Name != first.Name {
					t.Errorf("%s was chosen, want %s", victims[0].Name, first.Name)
				}
			}
		})
	}
}

func TestSidecarRestartsDecideLast(t *testing.T) {
	withSidecar := func(name string, restarts int32) *keelsonv1.Pod {
		pod := running(name).Obj()
		pod.Spec.InitContainers = []corev1.Container{{Name: "side", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "side", RestartCount: restarts}}
		return pod
	}
	got := planVictims([]*keelsonv1.Pod{withSidecar("a", 1), withSidecar("z", 3)}, nil, 1, now)
	if got[0].Name != "z" {
		t.Errorf("%s was chosen, want the one whose sidecar restarted more", got[0].Name)
	}
}

func TestRelatedPodsMakeANodeCrowded(t *testing.T) {
	a, b := running("a").Node("n1").Obj(), running("b").Node("n2").Obj()
	sibling := theirs("sibling").Node("n2").Ready().Obj()
	done := theirs("done").Node("n1").Phase(corev1.PodSucceeded).Obj()
	got := planVictims([]*keelsonv1.Pod{a, b}, []*keelsonv1.Pod{a, b, sibling, done}, 1, now)
	if got[0].Name != "b" {
		t.Errorf("%s was chosen, want the one beside the sibling", got[0].Name)
	}
}

// TestVictimsDoNotDependOnTheOrder is what makes two managers delete the same Pods.
func TestVictimsDoNotDependOnTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []*keelsonv1.Pod
		for i := range rapid.IntRange(2, 10).Draw(t, "pods") {
			b := running(string(rune('a' + i)))
			if rapid.Bool().Draw(t, "pending") {
				b = b.Phase(corev1.PodPending)
			}
			all = append(all, b.DeletionCost(rapid.IntRange(0, 1).Draw(t, "cost")).Obj())
		}
		count := rapid.IntRange(1, len(all)-1).Draw(t, "count")
		want := namesOf(planVictims(all, nil, count, now))
		got := namesOf(planVictims(rapid.Permutation(all).Draw(t, "order"), nil, count, now))
		for i := range want {
			if want[i] != got[i] {
				t.Fatalf("victims %v, in another order %v", want, got)
			}
		}
	})
}
