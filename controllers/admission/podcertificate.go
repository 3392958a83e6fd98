package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	certificateRequestKind = "PodCertificateRequest"
	// agentPrefix starts the user name of a node agent.
	agentPrefix = "keelson:node:"
)

// certificateGate judges requests of node agents for certificates of Pods, and hands on
// everything else. A signer trusts what a request says of its Pod because the API server
// has checked it; stock ones check built-in Pods and stock nodes' users only, so this is
// upstream's NodeRestriction for ours.
type certificateGate struct {
	next admission.Handler
	// reader asks the API server itself: what a signer signs must not come from a stale
	// cache.
	reader client.Reader
}

var _ admission.Handler = (*certificateGate)(nil)

// Handle implements admission.Handler.
func (g *certificateGate) Handle(ctx context.Context, request admission.Request) admission.Response {
	if request.Kind.Kind != certificateRequestKind {
		return g.next.Handle(ctx, request)
	}
	if request.Operation != admissionv1.Create {
		return admission.Allowed("") // config/policy lets agents change none
	}
	asked := &certificatesv1.PodCertificateRequest{}
	if err := json.Unmarshal(request.Object.Raw, asked); err != nil {
		return refuse(badRequest(fmt.Sprintf("%s cannot be read: %v", certificateRequestKind, err)))
	}
	f, err := g.gather(ctx, request.Namespace, asked)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Could not judge a request for a certificate", "pod", klog.KRef(request.Namespace, asked.Spec.PodName))
		return refuse(unavailable(err))
	}
	f.user = request.UserInfo.Username
	if problem := checkCertificateRequest(&asked.Spec, f); problem != nil {
		return refuse(forbiddenRequest(problem))
	}
	return admission.Allowed("")
}

func forbiddenRequest(problem error) *metav1.Status {
	return &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: fmt.Sprintf("podcertificaterequests.%s is forbidden: %v", certificatesv1.GroupName, problem),
	}
}

// certificateFacts are what a request is judged by; what is not there is nil.
type certificateFacts struct {
	user    string
	node    *keelsonv1.Node
	pod     *keelsonv1.Pod
	account *corev1.ServiceAccount
}

func (g *certificateGate) gather(ctx context.Context, namespace string, asked *certificatesv1.PodCertificateRequest) (certificateFacts, error) {
	f := certificateFacts{node: &keelsonv1.Node{}, pod: &keelsonv1.Pod{}, account: &corev1.ServiceAccount{}}
	nodeErr := g.reader.Get(ctx, types.NamespacedName{Name: string(asked.Spec.NodeName)}, f.node)
	podErr := g.reader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: asked.Spec.PodName}, f.pod)
	accountErr := g.reader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: asked.Spec.ServiceAccountName}, f.account)
	err := errors.Join(client.IgnoreNotFound(nodeErr), client.IgnoreNotFound(podErr), client.IgnoreNotFound(accountErr))
	if nodeErr != nil {
		f.node = nil
	}
	if podErr != nil {
		f.pod = nil
	}
	if accountErr != nil {
		f.account = nil
	}
	return f, err
}

// checkCertificateRequest says in upstream's words why a node must not ask for this.
func checkCertificateRequest(spec *certificatesv1.PodCertificateRequestSpec, f certificateFacts) error {
	node, isAgent := strings.CutPrefix(f.user, agentPrefix)
	switch {
	case !isAgent || node == "":
		return fmt.Errorf("%q is not the user of a node agent", f.user)
	case string(spec.NodeName) != node:
		return fmt.Errorf("PodCertificateRequest.Spec.NodeName=%q, which is not the requesting node %q", spec.NodeName, node)
	case f.node == nil:
		return fmt.Errorf("while retrieving node %q named in the PodCertificateRequest: not found", spec.NodeName)
	case f.node.UID != spec.NodeUID:
		return fmt.Errorf("PodCertificateRequest for pod %q names node UID %q, inconsistent with the running node (%q)", spec.PodName, spec.NodeUID, f.node.UID)
	case f.pod == nil:
		return fmt.Errorf("while retrieving pod %q named in the PodCertificateRequest: not found", spec.PodName)
	}
	return checkCertificatePod(spec, f)
}

func checkCertificatePod(spec *certificatesv1.PodCertificateRequestSpec, f certificateFacts) error {
	name := f.pod.Namespace + "/" + f.pod.Name
	_, mirror := f.pod.Annotations[corev1.MirrorPodAnnotationKey]
	switch {
	case f.pod.UID != spec.PodUID:
		return fmt.Errorf("PodCertificateRequest for pod %q contains pod UID (%q) which differs from running pod %q", name, spec.PodUID, f.pod.UID)
	case f.pod.Spec.NodeName != string(spec.NodeName):
		return fmt.Errorf("pod %q is not running on node %q named in the PodCertificateRequest", name, spec.NodeName)
	case mirror:
		return fmt.Errorf("pod %q is a mirror pod", name)
	case f.pod.Spec.ServiceAccountName != spec.ServiceAccountName:
		return fmt.Errorf("PodCertificateRequest for pod %q contains serviceAccountName (%q) that differs from running pod (%q)", name, spec.ServiceAccountName, f.pod.Spec.ServiceAccountName)
	case f.account == nil:
		return fmt.Errorf("while retrieving service account %q named in the PodCertificateRequest: not found", f.pod.Namespace+"/"+spec.ServiceAccountName)
	case f.account.UID != spec.ServiceAccountUID:
		return fmt.Errorf("PodCertificateRequest for pod %q names service account UID %q, which differs from the running service account (%q)", name, spec.ServiceAccountUID, f.account.UID)
	case !asksSigner(&f.pod.Spec, spec.SignerName):
		return fmt.Errorf("pod %q has no podCertificate volume for signer %q", name, spec.SignerName)
	}
	return nil
}

func asksSigner(spec *corev1.PodSpec, signer string) bool {
	return slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool {
		return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(p corev1.VolumeProjection) bool {
			return p.PodCertificate != nil && p.PodCertificate.SignerName == signer
		})
	})
}
