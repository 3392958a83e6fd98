package podcontrol

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
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
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, clientgoscheme.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}}}
	store := fake.NewClientBuilder().WithScheme(scheme).WithObjects(namespace).WithObjects(objects...).Build()
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

func TestPodsGoThroughTheWholeChain(t *testing.T) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}, AutomountServiceAccountToken: new(false)}
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 7}
	runtimeClass := &nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "heavy"}, Handler: "runc",
		Overhead: &nodev1.Overhead{PodFixed: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}},
	}
	limits := &keelsonv1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "l"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
		Type: corev1.LimitTypeContainer, DefaultRequest: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m")},
		Max: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}, Default: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
	}}}}
	c, _ := control(t, account, class, runtimeClass, limits)
	for what, tc := range map[string]struct {
		change func(*corev1.PodSpec)
		err    string
	}{
		"complete":        {func(*corev1.PodSpec) {}, ""},
		"no such class":   {func(s *corev1.PodSpec) { s.PriorityClassName = "none" }, "no PriorityClass with name none was found"},
		"no such runtime": {func(s *corev1.PodSpec) { s.RuntimeClassName = new("none") }, `pod rejected: RuntimeClass "none" not found`},
		"above the limit": {func(s *corev1.PodSpec) {
			s.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("2Gi")}
		}, "maximum memory usage per Container is 1Gi, but limit is 2Gi"},
		"against the security level": {func(s *corev1.PodSpec) { s.HostNetwork = true }, `violates PodSecurity "baseline:latest"`},
		"no such account":            {func(s *corev1.PodSpec) { s.ServiceAccountName = "none" }, "error looking up service account default/none"},
	} {
		t.Run(what, func(t *testing.T) {
			tmpl := template()
			tmpl.Spec.PriorityClassName, tmpl.Spec.RuntimeClassName = "high", new("heavy")
			tc.change(&tmpl.Spec)
			pod := Render(owner(), tmpl)
			err := c.Admit(t.Context(), pod)
			if tc.err != "" {
				if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			cpu := pod.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU]
			overhead := pod.Spec.Overhead[corev1.ResourceCPU]
			if *pod.Spec.Priority != 7 || cpu.String() != "50m" || overhead.String() != "10m" {
				t.Errorf("priority %d, cpu %s, overhead %s", *pod.Spec.Priority, cpu.String(), overhead.String())
			}
		})
	}
}
