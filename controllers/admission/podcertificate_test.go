package admission

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func object(name, uid string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid)}
}

// certifiedPod mounts a certificate of example.com/s.
func certifiedPod() *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: object("web", "pod-uid")}
	pod.Spec.NodeName, pod.Spec.ServiceAccountName = "n1", "robot"
	pod.Spec.Volumes = []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.com/s"}}},
	}}}}
	return pod
}

func certificateSpec() certificatesv1.PodCertificateRequestSpec {
	return certificatesv1.PodCertificateRequestSpec{
		SignerName: "example.com/s", PodName: "web", PodUID: "pod-uid", ServiceAccountName: "robot", ServiceAccountUID: "robot-uid",
		NodeName: "n1", NodeUID: "n1-uid",
	}
}

func TestCertificateRequests(t *testing.T) {
	tests := map[string]struct {
		user string
		spec func(*certificatesv1.PodCertificateRequestSpec)
		pod  func(*keelsonv1.Pod)
		want string
	}{
		"of a Pod of the node": {},
		"of somebody else":     {user: "alice", want: `"alice" is not the user of a node agent`},
		"of another node":      {user: "keelson:node:n2", want: `PodCertificateRequest.Spec.NodeName="n1", which is not the requesting node "n2"`},
		"of a node that is not there": {
			user: "keelson:node:n3", spec: func(s *certificatesv1.PodCertificateRequestSpec) { s.NodeName = "n3" },
			want: `while retrieving node "n3" named in the PodCertificateRequest: not found`,
		},
		"of an earlier node of the name": {
			spec: func(s *certificatesv1.PodCertificateRequestSpec) { s.NodeUID = "old" },
			want: `PodCertificateRequest for pod "web" names node UID "old", inconsistent with the running node ("n1-uid")`,
		},
		"for a Pod that is not there": {
			spec: func(s *certificatesv1.PodCertificateRequestSpec) { s.PodName = "none" },
			want: `while retrieving pod "none" named in the PodCertificateRequest: not found`,
		},
		"for an earlier Pod of the name": {
			spec: func(s *certificatesv1.PodCertificateRequestSpec) { s.PodUID = "old" },
			want: `PodCertificateRequest for pod "shop/web" contains pod UID ("old") which differs from running pod "pod-uid"`,
		},
		"for a Pod of another node": {
			pod:  func(p *keelsonv1.Pod) { p.Spec.NodeName = "n2" },
			want: `pod "shop/web" is not running on node "n1" named in the PodCertificateRequest`,
		},
		"for a mirror": {
			pod:  func(p *keelsonv1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} },
			want: `pod "shop/web" is a mirror pod`,
		},
		"for another account": {
			spec: func(s *certificatesv1.PodCertificateRequestSpec) { s.ServiceAccountName = "admin" },
			want: `PodCertificateRequest for pod "shop/web" contains serviceAccountName ("admin") that differs from running pod ("robot")`,
		},
		"for an account that is not there": {
			spec: func(s *certificatesv1.PodCertificateRequestSpec) { s.ServiceAccountName = "gone" },
			pod:  func(p *keelsonv1.Pod) { p.Spec.ServiceAccountName = "gone" },
			want: `while retrieving service account "shop/gone" named in the PodCertificateRequest: not found`,
		},
		"for an earlier account of the name": {
			spec: func(s *certificatesv1.PodCertificateRequestSpec) { s.ServiceAccountUID = "old" },
			want: `PodCertificateRequest for pod "shop/web" names service account UID "old", which differs from the running service account ("robot-uid")`,
		},
		"of a signer that the Pod does not name": {
			spec: func(s *certificatesv1.PodCertificateRequestSpec) { s.SignerName = "example.com/t" },
			want: `pod "shop/web" has no podCertificate volume for signer "example.com/t"`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod, spec := certifiedPod(), certificateSpec()
			if tt.spec != nil {
				tt.spec(&spec)
			}
			if tt.pod != nil {
				tt.pod(pod)
			}
			user := "keelson:node:n1"
			if tt.user != "" {
				user = tt.user
			}
			response := certificateGateOn(t, pod).Handle(t.Context(), certificateReview(t, user, spec))
			if tt.want == "" {
				if !response.Allowed {
					t.Errorf("refused: %+v", response.Result)
				}
				return
			}
			if response.Allowed || response.Result.Reason != metav1.StatusReasonForbidden || !strings.HasSuffix(response.Result.Message, ": "+tt.want) {
				t.Errorf("allowed %v, %+v, want Forbidden: %s", response.Allowed, response.Result, tt.want)
			}
		})
	}
}

func certificateGateOn(t *testing.T, pod *keelsonv1.Pod) *certificateGate {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n1-uid"}}
	account := &corev1.ServiceAccount{ObjectMeta: object("robot", "robot-uid")}
	return &certificateGate{
		next:   answering("handed on"),
		reader: fake.NewClientBuilder().WithScheme(scheme).WithObjects(pod, node, account).Build(),
	}
}

// answering is a handler that allows everything and says so.
type answering string

func (a answering) Handle(context.Context, admission.Request) admission.Response {
	return admission.Allowed(string(a))
}

func certificateReview(t *testing.T, user string, spec certificatesv1.PodCertificateRequestSpec) admission.Request {
	t.Helper()
	raw, err := json.Marshal(&certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", GenerateName: "req-"}, Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	request := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Kind: metav1.GroupVersionKind{Group: "certificates.k8s.io", Version: "v1", Kind: "PodCertificateRequest"}, Namespace: "shop",
		Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw},
	}}
	request.UserInfo.Username = user
	return request
}

func TestGateHandsOnWhatIsNoCertificateRequest(t *testing.T) {
	gate := certificateGateOn(t, certifiedPod())
	request := certificateReview(t, "alice", certificateSpec())
	request.Kind.Kind = "Pod"
	if got := gate.Handle(t.Context(), request); !got.Allowed || got.Result.Message != "handed on" {
		t.Errorf("answer %+v", got)
	}
}
