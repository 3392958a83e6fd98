package lifecycle

import (
	"context"
	"errors"
	"slices"
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
	// images are what is mounted, by volume.
	images   map[string]string
	imageErr error
	// files are those of the volume "files".
	files map[string]string
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

func (f *fakeVolumes) ImageVolumes(pod *keelsonv1.Pod, c *corev1.Container) ([]*corev1.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var missing []*corev1.Volume
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		mounts := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == v.Name })
		if v.Image != nil && mounts && f.images[v.Name] == "" {
			missing = append(missing, v)
		}
	}
	return missing, nil
}

func (f *fakeVolumes) MountImage(_ context.Context, _ *keelsonv1.Pod, v *corev1.Volume, ref string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.imageErr != nil {
		return f.imageErr
	}
	if f.images == nil {
		f.images = map[string]string{}
	}
	f.images[v.Name] = ref
	return nil
}

func (f *fakeVolumes) FilePath(_ *keelsonv1.Pod, volume, path string) (string, bool) {
	return "/volumes/" + volume + "/" + path, volume == "files"
}

func (f *fakeVolumes) ReadFile(_ *keelsonv1.Pod, _, path string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, ok := f.files[path]
	if !ok {
		return "", errors.New("no such file")
	}
	return text, nil
}

func (f *fakeVolumes) TearDown(_ context.Context, uid types.UID) error {
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

func withImageVolume(pod *keelsonv1.Pod, policy corev1.PullPolicy) *keelsonv1.Pod {
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		Image: &corev1.ImageVolumeSource{Reference: "data:1", PullPolicy: policy},
	}}}
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	}
	return pod
}

func TestImagesOfVolumesArePulledOnceAndMountedBeforeTheContainers(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(withImageVolume(makePod("p", "a", "b"), corev1.PullAlways))
		for _, name := range []string{"a", "b"} {
			if got := m.container(pod, name).State.Running; got == nil {
				t.Fatalf("state of %s %+v, want running", name, m.container(pod, name).State)
			}
		}
		events := strings.Join(m.events.all(), "\n")
		if got := strings.Count(events, `Pulling image "data:1"`); got != 1 {
			t.Errorf("%d pulls of the volume's image, want one: %s", got, events)
		}
		if m.volumes.images["data"] == "" {
			t.Error("the image is not mounted")
		}
		m.exit(pod, "a", 1)
		m.after(time.Minute)
		if got := strings.Count(strings.Join(m.events.all(), "\n"), `Pulling image "data:1"`); got != 1 {
			t.Errorf("%d pulls after a restart of a container, want one: the volume is there", got)
		}
	})
}

func TestContainerWaitsForTheImageOfItsVolume(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(withImageVolume(makePod("p", "a"), corev1.PullNever))
		waiting := m.container(pod, "a").State.Waiting
		if waiting == nil || waiting.Reason != "ErrImageNeverPull" || !strings.Contains(waiting.Message, `"data:1"`) {
			t.Fatalf("waiting %+v, want ErrImageNeverPull for data:1", waiting)
		}
		if events := strings.Join(m.events.all(), "\n"); !strings.Contains(events, "Error: ErrImageNeverPull") {
			t.Errorf("events %s", events)
		}
	})
}

func TestImageThatCannotBeMountedIsTriedAgain(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.volumes.imageErr = errors.New("mount image: no such device")
		pod := m.run(withImageVolume(makePod("p", "a"), corev1.PullIfNotPresent))
		waiting := m.container(pod, "a").State.Waiting
		if waiting == nil || waiting.Reason != "CreateContainerError" || waiting.Message != "mount image: no such device" {
			t.Fatalf("waiting %+v", waiting)
		}
		m.volumes.mu.Lock()
		m.volumes.imageErr = nil
		m.volumes.mu.Unlock()
		m.after(2 * time.Minute)
		if got := m.container(pod, "a").State.Running; got == nil {
			t.Errorf("state %+v, want running", m.container(pod, "a").State)
		}
	})
}
