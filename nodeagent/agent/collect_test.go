package agent

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/images"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestWantedImages(t *testing.T) {
	pod := &keelsonv1.Pod{}
	pod.UID = "uid"
	pod.Spec.InitContainers = []corev1.Container{{Image: "init"}}
	pod.Spec.Containers = []corev1.Container{{Image: "main"}, {Image: "side"}}
	pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Image: "debug"}}}
	pod.Spec.Volumes = []corev1.Volume{{}, {VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "data"}}}}
	a := &agent{admitted: newAdmittedPods()}
	a.admitted.add(pod)
	got := a.wantedImages()
	slices.Sort(got)
	if diff := cmp.Diff([]string{"data", "debug", "init", "main", "side"}, got); diff != "" {
		t.Error(diff)
	}
}

// puller answers as told.
type puller struct {
	lifecycle.Images
	events []string
	err    error
}

func (p puller) Ensure(_ context.Context, _ images.Request, report func(images.Event)) (runtime.Image, error) {
	for _, reason := range p.events {
		report(images.Event{Reason: reason})
	}
	return runtime.Image{}, p.err
}

func TestOnlyPullsAreNoticed(t *testing.T) {
	for name, test := range map[string]struct {
		puller puller
		want   int
	}{
		"an image that came":    {puller{events: []string{images.EventPulling, images.EventPulled}}, 1},
		"one that was there":    {puller{events: []string{images.EventPulled}}, 0},
		"one that did not come": {puller{events: []string{images.EventPulling, images.EventFailed}, err: errors.New("no space left on device")}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			pulled, reported := 0, 0
			n := noticingImages{test.puller, func() { pulled++ }}
			if _, err := n.Ensure(t.Context(), images.Request{}, func(images.Event) { reported++ }); !errors.Is(err, test.puller.err) {
				t.Errorf("error %v", err)
			}
			if pulled != test.want || reported != len(test.puller.events) {
				t.Errorf("noticed %d pulls, want %d; %d events", pulled, test.want, reported)
			}
		})
	}
}
