package admission

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podadmission"
)

func podWithEphemeral(edit func(*keelsonv1.Pod), ephemeral ...corev1.EphemeralContainer) string {
	pod := &keelsonv1.Pod{}
	pod.APIVersion, pod.Kind, pod.Name = "core.keelson.dev/v1", "Pod", "a"
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", ImagePullPolicy: corev1.PullAlways}}
	pod.Spec.EphemeralContainers = ephemeral
	if edit != nil {
		edit(pod)
	}
	podadmission.Default(pod)
	raw, err := json.Marshal(pod)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func debugger(name string, edit ...func(*corev1.EphemeralContainer)) corev1.EphemeralContainer {
	e := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "debug"}}
	for _, change := range edit {
		change(&e)
	}
	return e
}

func TestEphemeralContainers(t *testing.T) {
	one, two := debugger("one"), debugger("two", func(e *corev1.EphemeralContainer) { e.TargetContainerName, e.Stdin, e.TTY = "c", true, true })
	changed := debugger("one", func(e *corev1.EphemeralContainer) { e.Image = "other" })
	mirror := func(pod *keelsonv1.Pod) { pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }
	imageMissing := apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "a", field.ErrorList{
		field.Required(field.NewPath("spec", "containers").Index(0).Child("image"), ""),
		field.Required(field.NewPath("spec", "containers").Index(2).Child("image"), ""),
		field.Invalid(field.NewPath("spec", "restartPolicy"), "x", "no"),
	})
	tests := map[string]struct {
		old, now string
		oracle   fakeOracle
		want     []string // parts of the message; none means allowed
	}{
		"the first":           {old: podWithEphemeral(nil), now: podWithEphemeral(nil, two)},
		"one more":            {old: podWithEphemeral(nil, one), now: podWithEphemeral(nil, one, two)},
		"in another order":    {old: podWithEphemeral(nil, one), now: podWithEphemeral(nil, two, one)},
		"none of a list":      {old: podWithEphemeral(nil, one, two), now: podWithEphemeral(nil, one), want: []string{`spec.ephemeralContainers: Forbidden: existing ephemeral containers "two" may not be removed`}},
		"another image":       {old: podWithEphemeral(nil, one), now: podWithEphemeral(nil, changed), want: []string{`existing ephemeral containers "one" may not be changed`, `other`}},
		"of a static Pod":     {old: podWithEphemeral(mirror), now: podWithEphemeral(mirror, one), want: []string{"static pods do not support ephemeral containers"}},
		"a static Pod itself": {old: podWithEphemeral(mirror), now: podWithEphemeral(func(p *keelsonv1.Pod) { mirror(p); p.Spec.Containers[0].Image = "j" })},
		"no such target": {old: podWithEphemeral(nil), now: podWithEphemeral(nil, debugger("d", func(e *corev1.EphemeralContainer) { e.TargetContainerName = "x" })),
			want: []string{`spec.ephemeralContainers[0].targetContainerName: Not found: "x"`}},
		"an ephemeral target": {old: podWithEphemeral(nil, one), now: podWithEphemeral(nil, one, debugger("d", func(e *corev1.EphemeralContainer) { e.TargetContainerName = "one" })),
			want: []string{`spec.ephemeralContainers[1].targetContainerName: Not found: "one"`}},
		"fields that only others have": {old: podWithEphemeral(nil), now: podWithEphemeral(nil, debugger("d", func(e *corev1.EphemeralContainer) {
			e.Ports, e.RestartPolicy = []corev1.ContainerPort{{ContainerPort: 80}}, new(corev1.ContainerRestartPolicyAlways)
			e.LivenessProbe, e.Resources = &corev1.Probe{}, corev1.ResourceRequirements{Requests: corev1.ResourceList{}}
		})), want: []string{
			"spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
			"spec.ephemeralContainers[0].restartPolicy: Forbidden: cannot be set", "spec.ephemeralContainers[0].livenessProbe: Forbidden: cannot be set"}},
		"fields that nobody has yet": {old: podWithEphemeral(nil), now: podWithEphemeral(nil, debugger("d", func(e *corev1.EphemeralContainer) {
			e.VolumeDevices = []corev1.VolumeDevice{{Name: "v", DevicePath: "/v"}}
		})), want: []string{"spec.ephemeralContainers[0].volumeDevices: Forbidden: not supported by Keelson yet"}},
		"what upstream says": {old: podWithEphemeral(nil, one), now: podWithEphemeral(nil, one, debugger("d")), oracle: fakeOracle{err: imageMissing},
			want: []string{"spec.containers[0].image: Required value", "spec.ephemeralContainers[1].image: Required value", "spec.restartPolicy: Invalid"}},
		"something else beside": {old: podWithEphemeral(nil), now: podWithEphemeral(func(p *keelsonv1.Pod) { p.Spec.Hostname = "h" }, one),
			want: []string{"spec.hostname: Forbidden: may not change after creation"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			request := requestFor("Pod", admissionv1.Update, test.now, test.old)
			response := newHandler(&test.oracle, newPolicy(t), noToken).Handle(t.Context(), request)
			if err := response.Complete(request); err != nil {
				t.Fatal(err)
			}
			if response.Allowed != (len(test.want) == 0) {
				t.Errorf("allowed %t: %s", response.Allowed, response.Result.Message)
			}
			for _, want := range test.want {
				if !strings.Contains(response.Result.Message, want) {
					t.Errorf("message %q\ndoes not contain %q", response.Result.Message, want)
				}
			}
		})
	}
}

func TestEphemeralContainersGetUpstreamsDefaults(t *testing.T) {
	oracle := &defaultingOracle{}
	now := podWithEphemeral(nil, debugger("one", func(e *corev1.EphemeralContainer) { e.TargetContainerName = "c" }), debugger("two"))
	request := requestFor("Pod", admissionv1.Update, now, podWithEphemeral(nil))
	response := newHandler(oracle, newPolicy(t), noToken).Handle(t.Context(), request)
	if err := response.Complete(request); err != nil || !response.Allowed {
		t.Fatalf("%v, %+v", err, response.Result)
	}
	patch, err := jsonpatch.DecodePatch(response.Patch)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := patch.Apply([]byte(now))
	if err != nil {
		t.Fatal(err)
	}
	var pod keelsonv1.Pod
	if err := json.Unmarshal(stored, &pod); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(oracle.names, []string{"c", "one", "two"}) || len(pod.Spec.Containers) != 1 {
		t.Errorf("upstream saw %v, %d containers are stored", oracle.names, len(pod.Spec.Containers))
	}
	want := []corev1.EphemeralContainer{debugger("one", func(e *corev1.EphemeralContainer) { e.TargetContainerName = "c" }), debugger("two")}
	for i := range want {
		want[i].ImagePullPolicy = corev1.PullIfNotPresent
	}
	if diff := cmp.Diff(want, pod.Spec.EphemeralContainers); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestEphemeralContainersOfANewPodAreUpstreamsToRefuse(t *testing.T) {
	oracle := &fakeOracle{err: apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "a", field.ErrorList{
		field.Forbidden(ephemeralPath, "cannot be set on create")})}
	request := requestFor("Pod", admissionv1.Create, podWithEphemeral(nil, debugger("one")), "")
	response := newHandler(oracle, newPolicy(t), noToken).Handle(t.Context(), request)
	if _, sent := oracle.probes[0].child("spec")["ephemeralContainers"]; !sent {
		t.Error("upstream did not see them")
	}
	if response.Result.Code != http.StatusUnprocessableEntity || !strings.Contains(response.Result.Message, "spec.ephemeralContainers: Forbidden: cannot be set on create") {
		t.Errorf("answer %+v", response.Result)
	}
}

// defaultingOracle gives every new container a pull policy and requests, as defaults and
// a LimitRange do.
type defaultingOracle struct{ names []string }

func (o *defaultingOracle) dryRun(_ context.Context, _ kind, probe tree) ([]byte, []string, error) {
	for _, c := range probe.child("spec").children("containers") {
		o.names = append(o.names, c.text("name"))
		if c.text("imagePullPolicy") != "" {
			continue
		}
		c["imagePullPolicy"] = "IfNotPresent"
		c["resources"] = map[string]any{"requests": map[string]any{"cpu": "1"}}
	}
	answer, err := json.Marshal(probe)
	return answer, nil, err
}
