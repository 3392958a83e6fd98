package volumes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

var errDied = errors.New("the process died here")

// mortal is a machine on which the process dies before or after its n-th change: every
// call from then on fails, and what was done stays.
type mortal struct {
	mounts, views map[string]bool
	left          int  // changes until death; below zero: never
	after         bool // the last change still happens
	dead          bool
}

// change does something unless the process is dead.
func (m *mortal) change(do func()) error {
	switch {
	case m.dead:
		return errDied
	case m.left == 0:
		m.dead = true
		if m.after {
			do()
		}
		return errDied
	}
	m.left--
	do()
	return nil
}

func (m *mortal) MountMemory(dir, _ string) error {
	return m.change(func() { m.mounts[dir] = true })
}
func (m *mortal) MountHugePages(dir string, _ HugePages) error {
	return m.change(func() { m.mounts[dir] = true })
}
func (m *mortal) IsMountPoint(dir string) (bool, error) { return m.mounts[dir], nil }
func (m *mortal) Bind(_ *os.File, target string) error {
	return m.change(func() { m.mounts[target] = true })
}
func (m *mortal) Unmount(target string) error { return m.change(func() { delete(m.mounts, target) }) }
func (m *mortal) UnmountBelow(dir string) error {
	for target := range m.mounts {
		if strings.HasPrefix(target, dir+"/") {
			if err := m.Unmount(target); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *mortal) MountImage(_ context.Context, pod types.UID, volume, _, dir string) error {
	if err := m.change(func() { m.views[string(pod)+"/"+volume] = true }); err != nil {
		return err
	}
	return m.change(func() { m.mounts[dir] = true })
}

func (m *mortal) ReleaseImage(_ context.Context, pod types.UID, volume string) error {
	return m.change(func() { delete(m.views, string(pod)+"/"+volume) })
}

// live makes a Pod's volumes, starts its container, and takes them away again.
func live(t *testing.T, r *Manager, pod *keelsonv1.Pod) error {
	t.Helper()
	c := &pod.Spec.Containers[0]
	if _, err := r.SetUp(t.Context(), pod); err != nil {
		return err
	}
	missing, err := r.ImageVolumes(pod, c)
	if err != nil {
		return err
	}
	for _, v := range missing {
		if err := r.MountImage(t.Context(), pod, v, "ref"); err != nil {
			return err
		}
	}
	if _, err := r.Mounts(t.Context(), pod, c, nil); err != nil {
		return err
	}
	if err := r.ReleaseMounts(pod, c); err != nil {
		return err
	}
	return r.TearDown(t.Context(), pod.UID)
}

func TestNothingStaysWhereverTheProcessDies(t *testing.T) {
	newPod := func() *keelsonv1.Pod {
		pod := podWith(
			corev1.Volume{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
			corev1.Volume{Name: "key", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "key", DefaultMode: new(int32(0o600))}}},
			imageVolume("data", "data:1"),
		)
		pod.Spec.Containers[0].VolumeMounts[0].SubPath = "sub"
		return pod
	}
	boot := func(dir string, m *mortal) *Manager {
		r := newRig(t)
		r.objects.secrets["key"] = map[string]string{"password": "sesame"}
		return New(Options{PodsDir: dir, Objects: r.objects, Tokens: r.tokens, Mounter: m, Images: m,
			Clock: clocktesting.NewFakePassiveClock(time.Unix(0, 0)), Allocatable: r.Allocatable})
	}
	// The next process either carries on with the Pod, or has only its folder to go by.
	nexts := map[string]func(r *Manager) error{
		"carries on": func(r *Manager) error { return live(t, r, newPod()) },
		"sweeps":     func(r *Manager) error { return r.TearDown(t.Context(), "uid") },
	}
	for name, next := range nexts {
		for _, after := range []bool{false, true} {
			deaths := 0
			for ; ; deaths++ {
				dir := t.TempDir()
				m := &mortal{mounts: map[string]bool{}, views: map[string]bool{}, left: deaths, after: after}
				if err := live(t, boot(dir, m), newPod()); err == nil {
					break // it lives longer than that
				} else if !m.dead {
					t.Fatalf("failed without having died: %v", err)
				}
				m.dead, m.left = false, -1
				if err := next(boot(dir, m)); err != nil {
					t.Errorf("death at change %d (done: %v): the next process %s: %v", deaths, after, name, err)
				}
				left, err := filepath.Glob(filepath.Join(dir, "uid", "*"))
				if err != nil || len(m.mounts)+len(m.views)+len(left) > 0 {
					t.Errorf("death at change %d (done: %v): the next process %s and leaves mounts %v, views %v, files %v", deaths, after, name, m.mounts, m.views, left)
				}
			}
			if deaths < 8 {
				t.Errorf("died %d times only: the list shows little", deaths)
			}
		}
	}
}
