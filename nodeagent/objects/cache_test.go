package objects

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// fakeSource is an API server with one ConfigMap "settings" at most.
type fakeSource struct {
	mu      sync.Mutex
	object  client.Object
	refusal error
	lists   int
	watches []*watch.FakeWatcher
	open    int
}

func (f *fakeSource) list(context.Context, key) (client.Object, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	if f.refusal != nil {
		return nil, "", f.refusal
	}
	return f.object, "1", nil
}

func (f *fakeSource) watch(ctx context.Context, _ key, _ string) (watch.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := watch.NewFakeWithChanSize(10, false)
	f.watches = append(f.watches, w)
	f.open++
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.open--
	})
	return w, nil
}

func (f *fakeSource) refuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusal = err
}

func (f *fakeSource) newest() *watch.FakeWatcher {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watches[len(f.watches)-1]
}

func settings(version, color string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "settings", UID: "u", ResourceVersion: version},
		Data:       map[string]string{"color": color},
	}
}

func podNaming(uid types.UID, configMaps ...string) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: string(uid), UID: uid}}
	for _, name := range configMaps {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
		}})
	}
	return pod
}

type story struct {
	*Cache
	t      *testing.T
	source *fakeSource
	mu     sync.Mutex
	woken  []types.UID
}

func (s *story) takeWoken() []types.UID {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	woken := s.woken
	s.woken = nil
	slices.Sort(woken)
	return woken
}

func (s *story) color(want string) {
	s.t.Helper()
	object, err := s.ConfigMap(s.t.Context(), "ns", "settings")
	if err != nil || object.Data["color"] != want {
		s.t.Fatalf("got %v, %v, want color %s", object, err, want)
	}
}

func tell(t *testing.T, source *fakeSource, body func(t *testing.T, s *story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &story{t: t, source: source}
		s.Cache = newCache(ctx, source, clock.RealClock{}, func(uid types.UID) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.woken = append(s.woken, uid)
		})
		defer s.Wait()
		defer cancel()
		body(t, s)
	})
}

func TestChangesWakeThePodsThatNameTheObject(t *testing.T) {
	source := &fakeSource{object: settings("1", "red")}
	tell(t, source, func(t *testing.T, s *story) {
		s.Track(podNaming("a", "settings"))
		s.Track(podNaming("b", "settings"))
		s.Track(podNaming("c", "other"))
		s.color("red")
		s.takeWoken()
		if len(source.watches) != 2 {
			t.Fatalf("%d watches for two objects", len(source.watches))
		}
		for _, w := range source.watches {
			w.Modify(settings("2", "blue"))
		}
		if woken := s.takeWoken(); !slices.Equal(woken, []types.UID{"a", "b", "c"}) {
			t.Errorf("woken %v", woken)
		}
		s.color("blue")
	})
}

func TestObjectThatGoesAndComes(t *testing.T) {
	source := &fakeSource{}
	tell(t, source, func(t *testing.T, s *story) {
		s.Track(podNaming("a", "settings"))
		_, err := s.ConfigMap(t.Context(), "ns", "settings")
		if !apierrors.IsNotFound(err) || err.Error() != `configmap "settings" not found` {
			t.Fatalf("error %v", err)
		}
		s.takeWoken()
		source.newest().Add(settings("2", "red"))
		if woken := s.takeWoken(); len(woken) != 1 {
			t.Errorf("woken %v", woken)
		}
		s.color("red")
		source.newest().Delete(settings("3", "red"))
		s.takeWoken()
		if _, err := s.ConfigMap(t.Context(), "ns", "settings"); !apierrors.IsNotFound(err) {
			t.Errorf("error %v", err)
		}
	})
}

func TestRightThatArrivesLate(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "settings", errors.New("not yet"))
	source := &fakeSource{object: settings("1", "red"), refusal: forbidden}
	tell(t, source, func(t *testing.T, s *story) {
		s.Track(podNaming("a", "settings"))
		time.AfterFunc(time.Second, func() { source.refuse(nil) })
		started := time.Now()
		s.color("red")
		if waited := time.Since(started); waited > 3*time.Second {
			t.Errorf("waited %v for a right that came after a second", waited)
		}
	})
}

func TestRightThatNeverArrives(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "settings", errors.New("never"))
	source := &fakeSource{refusal: forbidden}
	tell(t, source, func(t *testing.T, s *story) {
		s.Track(podNaming("a", "settings"))
		if _, err := s.ConfigMap(t.Context(), "ns", "settings"); !apierrors.IsForbidden(err) {
			t.Errorf("error %v, want the refusal", err)
		}
		time.Sleep(10 * time.Minute)
		if source.lists > 100 {
			t.Errorf("%d requests in ten minutes", source.lists)
		}
	})
}

func TestOutageHidesNothingThatIsKnown(t *testing.T) {
	source := &fakeSource{object: settings("1", "red")}
	tell(t, source, func(t *testing.T, s *story) {
		s.Track(podNaming("a", "settings"))
		s.color("red")
		source.refuse(errors.New("connection refused"))
		source.newest().Error(&metav1.Status{Status: metav1.StatusFailure, Code: 410, Reason: metav1.StatusReasonExpired})
		time.Sleep(time.Minute)
		s.color("red")
		source.mu.Lock()
		source.refusal, source.object = nil, settings("9", "blue")
		source.mu.Unlock()
		time.Sleep(time.Minute)
		s.color("blue")
	})
}

func TestWatchesEndWithTheirPods(t *testing.T) {
	source := &fakeSource{object: settings("1", "red")}
	tell(t, source, func(t *testing.T, s *story) {
		s.Track(podNaming("a", "settings"))
		s.Track(podNaming("b", "settings"))
		s.color("red")
		s.Forget("a")
		synctest.Wait()
		if source.open != 1 {
			t.Errorf("%d watches while a Pod is left", source.open)
		}
		s.Track(podNaming("b")) // it names nothing any more
		synctest.Wait()
		if source.open != 0 || len(s.entries) != 0 || len(s.pods) != 0 {
			t.Errorf("%d watches, %d entries, %d Pods are left", source.open, len(s.entries), len(s.pods))
		}
		if _, err := s.ConfigMap(t.Context(), "ns", "settings"); err == nil || err.Error() != `object "ns"/"settings" not registered` {
			t.Errorf("error %v", err)
		}
	})
}
