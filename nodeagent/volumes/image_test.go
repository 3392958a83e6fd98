package volumes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// fakeImages mounts images by making a file, and writes down what it is asked.
type fakeImages struct {
	mounter *fakeMounter
	calls   []string
	err     error
}

func (f *fakeImages) MountImage(_ context.Context, pod types.UID, volume, ref, dir string) error {
	f.calls = append(f.calls, "mount "+string(pod)+"/"+volume+" "+ref)
	if f.err != nil {
		return f.err
	}
	f.mounter.memory[dir] = "image"
	return os.MkdirAll(filepath.Join(dir, "etc"), 0o755)
}

func (f *fakeImages) ReleaseImage(_ context.Context, pod types.UID, volume string) error {
	f.calls = append(f.calls, "release "+string(pod)+"/"+volume)
	return f.err
}

func imageVolume(name, reference string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: reference}}}
}

func TestImageVolumeIsMountedOnceAndReleased(t *testing.T) {
	r := newRig(t)
	images := &fakeImages{mounter: r.mounter}
	r.Images = images
	pod := podWith(imageVolume("data", "data:1"), corev1.Volume{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	pod.Spec.Volumes = append(pod.Spec.Volumes, imageVolume("unused", "data:2"))
	if _, err := r.SetUp(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	c := &pod.Spec.Containers[0]
	for range 2 { // a container that starts again finds it
		missing, err := r.ImageVolumes(pod, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range missing {
			if err := r.MountImage(t.Context(), pod, v, "registry/data@sha256:1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	mounts, err := r.Mounts(t.Context(), pod, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m := mounts[0]; m.HostPath != r.dir("image", "data") || !m.ReadOnly || !m.NoExec {
		t.Errorf("mount %+v, want the image, for reading only", m)
	}
	if err := r.TearDown(t.Context(), "uid"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"mount uid/data registry/data@sha256:1", "release uid/data"}, images.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestImageThatCannotBeReleasedKeepsTheFolder(t *testing.T) {
	r := newRig(t)
	images := &fakeImages{mounter: r.mounter}
	r.Images = images
	pod := podWith(imageVolume("data", "data:1"))
	if err := r.MountImage(t.Context(), pod, &pod.Spec.Volumes[0], "ref"); err != nil {
		t.Fatal(err)
	}
	images.err = errors.New("containerd is away")
	if err := r.TearDown(t.Context(), "uid"); !errors.Is(err, images.err) {
		t.Errorf("error %v", err)
	}
	if !exists(r.dir("image", "data")) {
		t.Error("the folder, which says what is to be released, is gone")
	}
	images.err = nil
	if err := r.TearDown(t.Context(), "uid"); err != nil || exists(r.dir("image", "data")) {
		t.Errorf("error %v, folder there: %v", err, exists(r.dir("image", "data")))
	}
}

func TestPathThatIsNotInAnImageIsNotMade(t *testing.T) {
	r := newRig(t)
	r.Images = &fakeImages{mounter: r.mounter}
	pod := podWith(imageVolume("data", "data:1"))
	c := &pod.Spec.Containers[0]
	if err := r.MountImage(t.Context(), pod, &pod.Spec.Volumes[0], "ref"); err != nil {
		t.Fatal(err)
	}
	c.VolumeMounts[0].SubPath = "etc"
	if _, err := r.Mounts(t.Context(), pod, c, nil); err != nil {
		t.Errorf("a path that is there: %v", err)
	}
	c.VolumeMounts[0].SubPath = "usr"
	const want = `failed to prepare subPath for volumeMount "data" of container "c"`
	if _, err := r.Mounts(t.Context(), pod, c, nil); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if exists(filepath.Join(r.dir("image", "data"), "usr")) {
		t.Error("the path was made")
	}
}

type fakeTrust struct{ anchors map[string]string }

func (f fakeTrust) Anchors(_ context.Context, source *corev1.ClusterTrustBundleProjection) ([]byte, error) {
	text, ok := f.anchors[*source.Name]
	if !ok {
		return nil, errors.New("no such bundle")
	}
	return []byte(text), nil
}

func TestTrustAnchorsAreAFileThatFollowsTheBundle(t *testing.T) {
	r := newRig(t)
	trust := fakeTrust{map[string]string{"ours": "first"}}
	r.Trust = trust
	pod := podWith(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: new(int32(0o644)),
		Sources:     []corev1.VolumeProjection{{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: new("ours"), Path: "tls/ca.crt"}}},
	}}})
	file := filepath.Join(r.dir("projected", "v"), "tls", "ca.crt")
	for _, want := range []string{"first", "second"} {
		trust.anchors["ours"] = want
		if _, err := r.SetUp(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("the file holds %q, %v, want %q", got, err, want)
		}
	}
	delete(trust.anchors, "ours")
	_, err := r.SetUp(t.Context(), pod)
	problems := Errors(err)
	if len(problems) != 1 || !problems[0].Stale || problems[0].Err.Error() != "no such bundle" {
		t.Errorf("error %v, want that the files are old", err)
	}
	var never time.Time
	if again, _ := r.SetUp(t.Context(), pod); again != never {
		t.Errorf("asks to be looked at at %v", again)
	}
}
