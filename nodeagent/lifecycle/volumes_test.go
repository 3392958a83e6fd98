package lifecycle

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/volumes"
)

// fakeVolumes makes nothing, and fails on demand.
type fakeVolumes struct {
	mu      sync.Mutex
	err     error
	again   time.Time
	mounts  []runtime.Mount
	setUps  int
	removed []types.UID
	open    int
}

func (f *fakeVolumes) SetUp(context.Context, *keelsonv1.Pod) (time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setUps++
	return f.again, f.err
}

func (f *fakeVolumes) Mounts(context.Context, *keelsonv1.Pod, *corev1.Container, []string) ([]runtime.Mount, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open++
	return f.mounts, nil
}

func (f *fakeVolumes) ReleaseMounts(*keelsonv1.Pod, *corev1.Container) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open--
	return nil
}

func (f *fakeVolumes) TearDown(uid types.UID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed = append(f.removed, uid)
	return nil
}

func (f *fakeVolumes) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeVolumes) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.setUps
}

func TestPodWaitsForItsVolumes(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.volumes.set(errors.Join(&volumes.SetUpError{Volume: "config", Err: errors.New(`configmap "settings" not found`)}))
		pod := m.run(makePod("p", "c"))
		if got := m.container(pod, "c").State.Waiting; got == nil || got.Reason != "ContainerCreating" {
			t.Fatalf("state %+v, want waiting in ContainerCreating", m.container(pod, "c").State)
		}
		const want = `MountVolume.SetUp failed for volume "config" : configmap "settings" not found`
		if events := strings.Join(m.events.all(), "\n"); !strings.Contains(events, "FailedMount") || !strings.Contains(events, want) {
			t.Errorf("events %s, want FailedMount with %q", events, want)
		}
		m.volumes.set(nil)
		m.pool.Wake(pod.UID)
		m.settle()
		if got := m.container(pod, "c").State.Running; got == nil {
			t.Errorf("state %+v, want running", m.container(pod, "c").State)
		}
		if m.volumes.open != 0 {
			t.Errorf("%d starts still hold their mounts", m.volumes.open)
		}
	})
}

func TestOldFilesStopNothing(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.volumes.set(errors.Join(&volumes.SetUpError{Volume: "config", Err: errors.New("gone"), Stale: true}))
		pod := m.run(makePod("p", "c"))
		if got := m.container(pod, "c").State.Running; got == nil {
			t.Fatalf("state %+v, want running", m.container(pod, "c").State)
		}
		before := m.volumes.count()
		m.after(staleRetry + time.Second)
		if m.volumes.count() == before {
			t.Error("the files were not tried again")
		}
	})
}

func TestVolumesGoWithTheirPod(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("p", "c"))
		m.run(deleted(pod))
		m.after(time.Minute)
		if len(m.volumes.removed) == 0 || m.volumes.removed[0] != pod.UID {
			t.Errorf("removed volumes of %v, want those of %s", m.volumes.removed, pod.UID)
		}
	})
}
