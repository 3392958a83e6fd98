package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/staticpods"
)

const staticManifest = `apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: registry.test/main:1
`

// manifests is a machine with a folder of manifests.
type manifests struct {
	*machine
	dir string
}

func newManifests(t *testing.T, name string) manifests {
	t.Helper()
	m := manifests{newMachine(t, name), t.TempDir()}
	m.options.PodManifestPath = m.dir
	return m
}

func (m manifests) write(name, content string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m manifests) mirror(name string) *keelsonv1.Pod {
	return &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name + "-" + m.name}}
}

// eventuallyMirrors waits until the mirror is there and shows a Pod that runs.
func (m manifests) eventuallyMirrors(mirror *keelsonv1.Pod) *keelsonv1.Pod {
	m.t.Helper()
	m.eventually("a mirror shows "+mirror.Name+" running", func(ctx context.Context) bool {
		return m.client.Get(ctx, client.ObjectKeyFromObject(mirror), mirror) == nil && mirror.Status.Summary.Status == "Running"
	})
	return mirror
}

// held is what the runtime holds.
func (m manifests) held() []runtime.PodState {
	pods, err := m.runtime.List(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return pods
}

func (m manifests) onlyContainer() runtime.Container {
	m.t.Helper()
	pods := m.held()
	if len(pods) != 1 || len(pods[0].Containers) != 1 {
		m.t.Fatalf("the runtime holds %+v", pods)
	}
	return pods[0].Containers[0]
}

func TestStaticPodIsMirrored(t *testing.T) {
	m := newManifests(t, "static-mirror")
	m.write("web.yaml", staticManifest)
	m.join()
	mirror := m.eventuallyMirrors(m.mirror("web"))
	var node keelsonv1.Node
	if err := m.client.Get(t.Context(), client.ObjectKey{Name: m.name}, &node); err != nil {
		t.Fatal(err)
	}
	owner := mirror.OwnerReferences
	hash := mirror.Annotations[staticpods.HashAnnotation]
	if hash == "" || mirror.Annotations[corev1.MirrorPodAnnotationKey] != hash || mirror.Annotations[staticpods.SourceAnnotation] != "file" ||
		mirror.Annotations[staticpods.SeenAnnotation] == "" || mirror.Labels["app"] != "web" || mirror.Spec.NodeName != m.name ||
		len(owner) != 1 || owner[0].UID != node.UID || owner[0].Kind != "Node" || mirror.Status.StartTime.IsZero() {
		t.Errorf("mirror is %+v", mirror)
	}
	ran := m.onlyContainer()

	// Deleting the mirror changes nothing but the mirror.
	if err := m.client.Delete(t.Context(), mirror); err != nil {
		t.Fatal(err)
	}
	m.eventually("another mirror shows the Pod", func(ctx context.Context) bool {
		again := &keelsonv1.Pod{}
		return m.client.Get(ctx, client.ObjectKeyFromObject(mirror), again) == nil && again.UID != mirror.UID &&
			again.Status.Summary.Status == "Running"
	})
	if now := m.onlyContainer(); now.ID != ran.ID || now.State != runtime.Running {
		t.Errorf("container %+v became %+v", ran, now)
	}

	// The end of the manifest is the end of the Pod.
	if err := os.Remove(filepath.Join(m.dir, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	m.eventuallyGone(mirror)
	m.nothingLeft()
}

func TestStaticPodSurvivesTheAgent(t *testing.T) {
	m := newManifests(t, "static-restart")
	m.write("web.yaml", staticManifest)
	m.join()
	before := m.eventuallyMirrors(m.mirror("web"))
	ran := m.onlyContainer()
	m.stop()
	m.boot()
	// The new agent has spoken when what it hears of the container shows.
	if err := m.runtime.Exit(types.UID(before.Annotations[staticpods.HashAnnotation]), "main", 1, "Error"); err != nil {
		t.Fatal(err)
	}
	m.eventually("the container is started again", func(context.Context) bool {
		return m.get(before).Status.Summary.Restarts == 1
	})
	after := m.get(before)
	if after.UID != before.UID || !after.Status.StartTime.Equal(before.Status.StartTime) {
		t.Errorf("mirror %s since %v became %s since %v", before.UID, before.Status.StartTime, after.UID, after.Status.StartTime)
	}
	pods := m.held()
	if len(pods) != 1 || pods[0].Containers[len(pods[0].Containers)-1].ID != ran.ID {
		t.Errorf("the first container is not the one of before: %+v", pods)
	}
}

func TestChangedManifestIsANewPod(t *testing.T) {
	m := newManifests(t, "static-change")
	m.write("web.yaml", staticManifest)
	m.join()
	before := m.eventuallyMirrors(m.mirror("web"))
	m.write("web.yaml", strings.Replace(staticManifest, "main:1", "main:2", 1))
	m.eventually("the mirror shows the new Pod", func(ctx context.Context) bool {
		now := &keelsonv1.Pod{}
		return m.client.Get(ctx, client.ObjectKeyFromObject(before), now) == nil && now.UID != before.UID &&
			now.Spec.Containers[0].Image == "registry.test/main:2" && now.Status.Summary.Status == "Running"
	})
	m.eventually("the old one is gone", func(context.Context) bool { return len(m.held()) == 1 })
	if c := m.onlyContainer(); c.Image != "registry.test/main:2" {
		t.Errorf("%+v runs", c)
	}
}

func TestManifestsThatChangedWhileTheAgentWasAway(t *testing.T) {
	m := newManifests(t, "static-away")
	m.write("web.yaml", staticManifest)
	m.write("gone.yaml", strings.Replace(staticManifest, "name: web", "name: gone", 1))
	m.join()
	gone := m.eventuallyMirrors(m.mirror("gone"))
	m.eventuallyMirrors(m.mirror("web"))
	m.stop()
	m.write("web.yaml", strings.Replace(staticManifest, "main:1", "main:2", 1))
	if err := os.Remove(filepath.Join(m.dir, "gone.yaml")); err != nil {
		t.Fatal(err)
	}
	m.boot()
	m.eventuallyGone(gone)
	m.eventually("only the new Pod runs", func(context.Context) bool {
		pods := m.held()
		return len(pods) == 1 && len(pods[0].Containers) == 1 && pods[0].Containers[0].Image == "registry.test/main:2"
	})
	m.eventually("its mirror shows it", func(context.Context) bool {
		now := m.mirror("web")
		return m.client.Get(m.t.Context(), client.ObjectKeyFromObject(now), now) == nil && now.Spec.Containers[0].Image == "registry.test/main:2" && now.Status.Summary.Status == "Running"
	})
}

func TestBadManifestIsReportedAndLeavesOthersAlone(t *testing.T) {
	m := newManifests(t, "static-bad")
	m.write("a-bad.yaml", strings.Replace(staticManifest, "image:", "imgae:", 1))
	m.write("b-good.yaml", staticManifest)
	m.join()
	m.eventuallyMirrors(m.mirror("web"))
	m.eventually("an event names file and field", func(ctx context.Context) bool {
		events := &corev1.EventList{}
		if err := m.client.List(ctx, events, client.InNamespace("default")); err != nil {
			t.Fatal(err)
		}
		for _, e := range events.Items {
			if e.InvolvedObject.Name == m.name && e.Reason == "FailedValidation" &&
				strings.Contains(e.Message, "a-bad.yaml") && strings.Contains(e.Message, `unknown field "spec.containers[0].imgae"`) {
				return true
			}
		}
		return false
	})
}

// A mirror that nobody made from a manifest is not run, and goes.
func TestMirrorWithoutManifestGoes(t *testing.T) {
	m := newManifests(t, "static-none")
	m.join()
	stray := m.makePod("stray")
	stray.Finalizers = nil
	stray.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "abc"}
	m.create(stray)
	m.eventuallyGone(stray)
	m.nothingLeft()
}

// Static Pods start although the API server has never answered.
func TestStaticPodStartsWithoutTheAPI(t *testing.T) {
	m := newManifests(t, "static-alone")
	m.write("web.yaml", strings.Replace(staticManifest, "spec:", "spec:\n  hostNetwork: true", 1))
	m.bootAt(&rest.Config{Host: "https://127.0.0.1:1"}) // nobody listens there
	m.eventually("the container runs", func(context.Context) bool {
		pods := m.held()
		return len(pods) == 1 && len(pods[0].Containers) == 1 && pods[0].Containers[0].State == runtime.Running
	})
}
