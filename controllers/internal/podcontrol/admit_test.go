package podcontrol

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podadmission"
)

func owner() Owner {
	rc := &keelsonv1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "rc-uid"}}
	return Owner{Object: rc, Kind: keelsonv1.GroupVersion.WithKind("ReplicationController")}
}

func template() *corev1.PodTemplateSpec {
	return &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "image"}}},
	}
}

func control(t *testing.T, objects ...client.Object) (Control, *events.FakeRecorder) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	store := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	recorder := events.NewFakeRecorder(10)
	return For(store, store, recorder), recorder
}

func TestPodsGetWhatTheirAccountSays(t *testing.T) {
	c, _ := control(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}})
	if err := c.Create(t.Context(), owner(), Render(owner(), template())); err != nil {
		t.Fatal(err)
	}
	pods := &keelsonv1.PodList{}
	if err := c.Client.List(t.Context(), pods); err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d Pods, %v", len(pods.Items), err)
	}
	spec := pods.Items[0].Spec
	if len(spec.Volumes) != 1 || !strings.HasPrefix(spec.Volumes[0].Name, podadmission.TokenVolumePrefix) ||
		len(spec.Containers[0].VolumeMounts) != 1 {
		t.Errorf("volumes %+v, mounts %+v: no token", spec.Volumes, spec.Containers[0].VolumeMounts)
	}
}

func TestAccountThatIsNotThereRefusesThePod(t *testing.T) {
	c, recorder := control(t)
	err := c.Create(t.Context(), owner(), Render(owner(), template()))
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "error looking up service account default/default") {
		t.Errorf("error %v", err)
	}
	pods := &keelsonv1.PodList{}
	if err := c.Client.List(t.Context(), pods); err != nil || len(pods.Items) != 0 {
		t.Errorf("%d Pods, %v: one was created", len(pods.Items), err)
	}
	select {
	case event := <-recorder.Events:
		if !strings.Contains(event, "Warning FailedCreate Error creating: ") || !strings.Contains(event, "service account") {
			t.Errorf("event %q", event)
		}
	default:
		t.Error("no event says why")
	}
}

func named(name string) *keelsonv1.Pod {
	return &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)}}
}

func TestNewestOfEachKeepsTheLastCopy(t *testing.T) {
	before, after, other := named("a"), named("a"), named("b")
	got := newestOfEach([]*keelsonv1.Pod{before, after, other}, map[types.UID]bool{"uid-a": true, "uid-b": true})
	if len(got) != 2 || !slices.Contains(got, after) || !slices.Contains(got, other) {
		t.Errorf("kept %v", got)
	}
}
