package trust

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	fakesource "k8s.io/client-go/tools/cache/testing"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// story is a Cache on an API server in memory, in the test's own time.
type story struct {
	*Cache
	source *fakesource.FakeControllerSource

	mu    sync.Mutex
	woken map[types.UID]int
}

func tell(t *testing.T, what func(t *testing.T, s *story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s := &story{source: fakesource.NewFakeControllerSource(), woken: map[types.UID]int{}}
		s.Cache = newCache(ctx, s.source, clock.RealClock{}, s.wakeUp)
		what(t, s)
		stop()
		s.Wait()
		s.source.Shutdown()
	})
}

func (s *story) wakeUp(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.woken[uid]++
}

func (s *story) wakes() map[types.UID]int {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.woken
	s.woken = map[types.UID]int{}
	return was
}

func podWith(uid types.UID, sources ...*corev1.ClusterTrustBundleProjection) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}}
	projected := &corev1.ProjectedVolumeSource{}
	for _, source := range sources {
		projected.Sources = append(projected.Sources, corev1.VolumeProjection{ClusterTrustBundle: source})
	}
	pod.Spec.Volumes = []corev1.Volume{{Name: "trust", VolumeSource: corev1.VolumeSource{Projected: projected}}}
	return pod
}

func TestChangesWakeThosePodsWhoseFilesTheyConcern(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.source.Add(bundle("a", "", certificate("first")))
		s.Track(podWith("one", byName("a")))
		s.Track(podWith("two", byName("b"), optional(byName("c"))))
		if got, err := s.Anchors(t.Context(), byName("a")); err != nil || string(got) != certificate("first") {
			t.Fatalf("anchors %q, error %v", got, err)
		}
		s.wakes()

		s.source.Modify(bundle("a", "", certificate("second")))
		s.source.Add(bundle("c", "", certificate("third")))
		s.source.Add(bundle("d", "", certificate("fourth")))
		if diff := cmp.Diff(map[types.UID]int{"one": 1, "two": 1}, s.wakes()); diff != "" {
			t.Errorf("woken (-want +got):\n%s", diff)
		}
		if got, err := s.Anchors(t.Context(), byName("a")); err != nil || string(got) != certificate("second") {
			t.Errorf("anchors %q, error %v", got, err)
		}
		s.source.Delete(bundle("a", "", ""))
		if diff := cmp.Diff(map[types.UID]int{"one": 1}, s.wakes()); diff != "" {
			t.Errorf("woken (-want +got):\n%s", diff)
		}
		if _, err := s.Anchors(t.Context(), byName("a")); err == nil {
			t.Error("a bundle that was deleted is still there")
		}
	})
}

func TestWatchesOnlyWhilePodsNameBundles(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.Track(podWith("none"))
		if s.watch != nil {
			t.Error("watches although no Pod names a bundle")
		}
		s.Track(podWith("one", byName("a")))
		s.Track(podWith("two", byName("a")))
		s.Forget("one")
		s.Forget("never seen")
		if s.watch == nil {
			t.Error("does not watch although a Pod names a bundle")
		}
		s.Track(podWith("two")) // it names none any more
		if s.watch != nil || len(s.pods) != 0 {
			t.Errorf("still watches for %v", s.pods)
		}
		if _, err := s.Anchors(t.Context(), byName("a")); err == nil || !strings.Contains(err.Error(), "not watched") {
			t.Errorf("error %v", err)
		}
	})
}

func TestServerThatDoesNotAnswerHoldsNobodyForLong(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		working := s.source
		s.Cache.source = &toolscache.ListWatch{ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			return nil, errors.New("the server could not find the requested resource")
		}, WatchFuncWithContext: func(_ context.Context, o metav1.ListOptions) (apiwatch.Interface, error) { return working.Watch(o) }}
		s.Track(podWith("one", byName("a")))
		started := time.Now()
		_, err := s.Anchors(t.Context(), byName("a"))
		if err == nil || err.Error() != "ClusterTrustBundle informer has not yet synced" {
			t.Errorf("error %v", err)
		}
		if waited := time.Since(started); waited != patience {
			t.Errorf("waited %v, want %v", waited, patience)
		}
	})
}
