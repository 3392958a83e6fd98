package admission

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/svcranges"
)

// fakeOracle agrees with every probe unless it has an error.
type fakeOracle struct {
	err      error
	warnings []string
	probes   []tree
}

func (f *fakeOracle) dryRun(_ context.Context, _ kind, probe tree) ([]byte, []string, error) {
	f.probes = append(f.probes, probe)
	if f.err != nil {
		return nil, f.warnings, f.err
	}
	answer, err := json.Marshal(probe)
	return answer, f.warnings, err
}

func newPolicy(t *testing.T, services ...client.Object) servicePolicy {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := keelsonv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	addresses, err := svcranges.ParseServiceCIDRs("10.254.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	return servicePolicy{
		services:  fake.NewClientBuilder().WithScheme(scheme).WithObjects(services...).Build(),
		addresses: addresses, nodePorts: svcranges.PortRange{First: 30000, Last: 32767},
	}
}

func requestFor(kind string, operation admissionv1.Operation, object, old string) admission.Request {
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Kind: metav1.GroupVersionKind{Group: keelsonv1.GroupName, Version: "v1", Kind: kind}, Name: "a", Namespace: "ns",
		Operation: operation, Object: runtime.RawExtension{Raw: []byte(object)}, OldObject: runtime.RawExtension{Raw: []byte(old)},
	}}
}

const (
	podJSON  = `{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a","namespace":"ns","uid":"u"},"spec":{"containers":[{"name":"c","image":"i"}]}}`
	podFrom  = `{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","volumeDevices":[{"name":"d","devicePath":"/d"}]}]}}`
	podOther = `{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a","labels":{"x":"y"}},"spec":{"containers":[{"name":"c","image":"i"}]},"status":{"phase":"Running"}}`
)

const setJSON = `{"apiVersion":"apps.keelson.dev/v1","kind":"DaemonSet","metadata":{"name":"a"},"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i"}]}}}}`

// generation is a DaemonSet with that annotation.
func generation(value string) string {
	return strings.Replace(setJSON, `"metadata":{`, `"metadata":{"annotations":{"deprecated.daemonset.template.generation":"`+value+`"},`, 1)
}

// versioned is an object as it was read at a resource version.
func versioned(version, object string) string {
	return strings.Replace(object, `"metadata":{`, `"metadata":{"resourceVersion":"`+version+`",`, 1)
}

func TestHandle(t *testing.T) {
	podKind := schema.GroupKind{Kind: "Pod"}
	imageMissing := apierrors.NewInvalid(podKind, "a", field.ErrorList{field.Required(field.NewPath("spec", "containers").Index(0).Child("image"), "")})
	for name, tc := range map[string]struct {
		request   admission.Request
		oracle    fakeOracle
		wantCode  int32
		want      string // part of the message
		wantAsked bool
	}{
		"upstream and Keelson agree": {
			request: requestFor("Pod", admissionv1.Create, podJSON, ""), wantCode: http.StatusOK, wantAsked: true},
		"upstream refuses, Keelson too": {
			request: requestFor("Pod", admissionv1.Create, podFrom, ""), oracle: fakeOracle{err: imageMissing}, wantAsked: true,
			wantCode: http.StatusUnprocessableEntity,
			want:     `Pod.core.keelson.dev "a" is invalid: [spec.containers[0].image: Required value, spec.containers[0].volumeDevices: Forbidden: not supported by Keelson yet: claims of storage are not bound yet]`},
		"a plugin of the host refuses": {
			request: requestFor("Pod", admissionv1.Create, podJSON, ""), wantAsked: true,
			oracle:   fakeOracle{err: apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "a", errors.New("not today"))},
			wantCode: http.StatusForbidden, want: `pods "a" is forbidden: not today`},
		"the API server cannot answer": {
			request: requestFor("Pod", admissionv1.Create, podJSON, ""), wantAsked: true,
			oracle:   fakeOracle{err: errors.New("connection refused")},
			wantCode: http.StatusServiceUnavailable, want: "the object could not be checked, try again: dry run of the built-in Pod: connection refused"},
		"a server error is no judgement": {
			request: requestFor("Pod", admissionv1.Create, podJSON, ""), wantAsked: true,
			oracle:   fakeOracle{err: apierrors.NewInternalError(errors.New("etcd is away"))},
			wantCode: http.StatusServiceUnavailable, want: "etcd is away"},
		"the API server has no built-in Pod": {
			request: requestFor("Pod", admissionv1.Create, podFrom, ""), oracle: fakeOracle{err: errNoBuiltin}, wantCode: http.StatusOK, wantAsked: true},
		"an update of labels and status is not the webhook's business": {
			request: requestFor("Pod", admissionv1.Update, podOther, podJSON), wantCode: http.StatusOK},
		"an update of a version that is gone is the API server's conflict": {
			request: requestFor("Pod", admissionv1.Update, versioned("1", podFrom), versioned("2", podJSON)), wantCode: http.StatusOK},
		"an update of the stored version is judged": {
			request: requestFor("Pod", admissionv1.Update, versioned("2", podFrom), versioned("2", podJSON)), wantCode: http.StatusUnprocessableEntity, wantAsked: true},
		"an update of any version is judged": {
			request: requestFor("Pod", admissionv1.Update, podFrom, versioned("2", podJSON)), wantCode: http.StatusUnprocessableEntity, wantAsked: true},
		"an update of an annotation that is a field of upstream's is judged": {
			request: requestFor("DaemonSet", admissionv1.Update, generation("4"), generation("3")), wantCode: http.StatusOK, wantAsked: true},
		"also one that takes it out": {
			request: requestFor("DaemonSet", admissionv1.Update, setJSON, generation("3")), wantCode: http.StatusOK, wantAsked: true},
		"not one that leaves it": {
			request: requestFor("DaemonSet", admissionv1.Update, strings.Replace(generation("3"), `"name":"a"`, `"name":"a","labels":{"x":"y"}`, 1), generation("3")), wantCode: http.StatusOK},
		"deletion is not either": {
			request: requestFor("Pod", admissionv1.Delete, "", podJSON), wantCode: http.StatusOK},
		"a kind that nobody registered": {
			request: requestFor("Secret", admissionv1.Create, podJSON, ""), wantCode: http.StatusBadRequest, want: "the registration is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			response := newHandler(&tc.oracle, newPolicy(t), noToken).Handle(t.Context(), tc.request)
			if err := response.Complete(tc.request); err != nil {
				t.Fatal(err)
			}
			if response.Result.Code != tc.wantCode || response.Allowed != (tc.wantCode == http.StatusOK) {
				t.Errorf("code %d, allowed %t; want code %d: %s", response.Result.Code, response.Allowed, tc.wantCode, response.Result.Message)
			}
			if !strings.Contains(response.Result.Message, tc.want) {
				t.Errorf("message %q\ndoes not contain %q", response.Result.Message, tc.want)
			}
			if asked := len(tc.oracle.probes) > 0; asked != tc.wantAsked {
				t.Errorf("upstream asked: %t, want %t", asked, tc.wantAsked)
			}
		})
	}
}

func TestProbeCarriesNoForeignMetadata(t *testing.T) {
	o := &fakeOracle{}
	newHandler(o, newPolicy(t), noToken).Handle(t.Context(), requestFor("Pod", admissionv1.Create, podJSON, ""))
	want := tree{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "a"}, "spec": map[string]any{
		"automountServiceAccountToken": false, "serviceAccountName": DryRunAccount,
		"containers": []any{map[string]any{"name": "c", "image": "i"}},
	}}
	if diff := cmp.Diff([]tree{want}, o.probes); diff != "" {
		t.Errorf("probe (-want +got):\n%s", diff)
	}
}

func TestErrorsThatWereThereBefore(t *testing.T) {
	old := `{"apiVersion":"core.keelson.dev/v1","kind":"ReplicationController","metadata":{"name":"a"},"spec":{"replicas":1,"template":{"spec":{"schedulingGates":[{"name":"g"}]}}}}`
	scaled := strings.Replace(old, `"replicas":1`, `"replicas":2`, 1)
	worse := strings.Replace(scaled, `"schedulingGates"`, `"resourceClaims":[{"name":"r"}],"schedulingGates"`, 1)
	handler := newHandler(&fakeOracle{}, newPolicy(t), noToken)
	if response := handler.Handle(t.Context(), requestFor("ReplicationController", admissionv1.Update, scaled, old)); !response.Allowed {
		t.Errorf("an object stored with a refused field cannot be scaled: %s", response.Result.Message)
	}
	response := handler.Handle(t.Context(), requestFor("ReplicationController", admissionv1.Update, worse, old))
	want := `ReplicationController.core.keelson.dev "a" is invalid: spec.template.spec.resourceClaims: Forbidden: not supported by Keelson yet: dynamic resources are not allocated`
	if response.Allowed || response.Result.Message != want {
		t.Errorf("allowed %t, message %q; want only the new error: %q", response.Allowed, response.Result.Message, want)
	}
}

func TestPreparePod(t *testing.T) {
	for name, tc := range map[string]struct{ spec, want string }{
		"what plugins would judge is set aside": {
			`{"serviceAccountName":"a","serviceAccount":"a","automountServiceAccountToken":true,"priority":5,"priorityClassName":"p","preemptionPolicy":"Never","hostNetwork":true}`,
			`{"serviceAccountName":"keelson-dry-run","automountServiceAccountToken":false,"priority":5,"priorityClassName":"p","preemptionPolicy":"Never","hostNetwork":true}`},
		"wrong types stay for upstream's message": {
			`{"serviceAccountName":1,"automountServiceAccountToken":"no","priority":"high","priorityClassName":{}}`,
			`{"serviceAccountName":1,"automountServiceAccountToken":"no","priority":"high","priorityClassName":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			expectPrepared(t, preparePod, tc.spec, "", tc.want)
		})
	}
	if err := preparePod(tree{"spec": "text"}, nil); err != nil {
		t.Errorf("a spec of the wrong type: %v, want it left for upstream", err)
	}
}

func expectPrepared(t *testing.T, prepare func(tree, []byte) error, spec, old, want string) {
	t.Helper()
	decoded, err := decodeTree([]byte(spec))
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := decodeTree([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	var oldRaw []byte
	if old != "" {
		oldRaw = []byte(`{"spec":` + old + `}`)
	}
	if err := prepare(tree{"spec": map[string]any(decoded)}, oldRaw); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, decoded); diff != "" {
		t.Errorf("spec for the dry run (-want +got):\n%s", diff)
	}
}

func TestCheckPodUpdate(t *testing.T) {
	base := func() *corev1.PodSpec {
		return &corev1.PodSpec{
			Containers:                    []corev1.Container{{Name: "a", Image: "1"}, {Name: "b", Image: "1"}},
			InitContainers:                []corev1.Container{{Name: "i", Image: "1"}},
			Tolerations:                   []corev1.Toleration{{Key: "x"}},
			TerminationGracePeriodSeconds: new(int64(-1)),
			ActiveDeadlineSeconds:         new(int64(60)),
		}
	}
	for name, tc := range map[string]struct {
		change func(*corev1.PodSpec)
		want   []string
	}{
		"nothing":                        {func(*corev1.PodSpec) {}, nil},
		"an image":                       {func(s *corev1.PodSpec) { s.Containers[1].Image = "2" }, nil},
		"the image of an init container": {func(s *corev1.PodSpec) { s.InitContainers[0].Image = "2" }, nil},
		"a shorter deadline":             {func(s *corev1.PodSpec) { s.ActiveDeadlineSeconds = new(int64(59)) }, nil},
		"a longer deadline":              {func(s *corev1.PodSpec) { s.ActiveDeadlineSeconds = new(int64(61)) }, []string{"spec.activeDeadlineSeconds"}},
		"no deadline any more":           {func(s *corev1.PodSpec) { s.ActiveDeadlineSeconds = nil }, []string{"spec.activeDeadlineSeconds"}},
		"one more toleration":            {func(s *corev1.PodSpec) { s.Tolerations = append(s.Tolerations, corev1.Toleration{Key: "y"}) }, nil},
		"a toleration changed":           {func(s *corev1.PodSpec) { s.Tolerations[0].Key = "y" }, []string{"spec.tolerations"}},
		"a negative grace period to 1":   {func(s *corev1.PodSpec) { s.TerminationGracePeriodSeconds = new(int64(1)) }, nil},
		"a negative grace period to 2":   {func(s *corev1.PodSpec) { s.TerminationGracePeriodSeconds = new(int64(2)) }, []string{"spec.terminationGracePeriodSeconds"}},
		"an image and a command":         {func(s *corev1.PodSpec) { s.Containers[1].Image, s.Containers[1].Command = "2", []string{"x"} }, []string{"spec.containers[1].command"}},
		"a node, which binding sets":     {func(s *corev1.PodSpec) { s.NodeName = "n" }, []string{"spec.nodeName"}},
		"containers in another order":    {func(s *corev1.PodSpec) { s.Containers[0].Name, s.Containers[1].Name = "b", "a" }, []string{"spec.containers[0].name", "spec.containers[1].name"}},
		"a container less":               {func(s *corev1.PodSpec) { s.Containers = s.Containers[:1] }, []string{"spec.containers"}},
		"an empty map where none was":    {func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{} }, nil},
		"a field inside a new map":       {func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"a": "b"} }, []string{"spec.nodeSelector"}},
		"a pointer to a struct of none":  {func(s *corev1.PodSpec) { s.DNSConfig = &corev1.PodDNSConfig{Searches: []string{"a"}} }, []string{"spec.dnsConfig"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := base()
			tc.change(spec)
			errs, err := checkPodUpdate(spec, base())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range errs {
				got = append(got, e.Field)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("fixed fields that changed (-want +got):\n%s", diff)
			}
		})
	}
}
