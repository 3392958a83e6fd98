// Package csr gives nodes their certificates through CertificateSigningRequests: it
// approves the requests of those who may, and signs what is approved, for two signers of
// its own (ADR 0025). It does for Keelson's agents what a stock controller manager does
// for kubelets, under other names, so that both can run beside each other.
//
// It never touches a request of another signer, approves nothing that RBAC does not allow
// the requester, and signs nothing but the identity of one node. The authority's key is
// read when something is signed and kept nowhere. It has no state: after a crash every
// request that has no certificate yet is looked at again; one that was signed but not
// written is signed once more, and the first certificate is nobody's.
package csr

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// Name is the controller's name in --controllers, logs and metrics.
const Name = "csr"

// The signers. What a request must look like is in validate.go.
const (
	// ClientSigner signs the certificate by which an agent shows who it is.
	ClientSigner = "keelson.dev/node-client"
	// ServingSigner signs the certificate of an agent's server.
	ServingSigner = "keelson.dev/node-serving"
)

// Options configure the controller.
type Options struct {
	// CertFile and KeyFile are the PEM files of the authority; both empty means that the
	// controller is off: nothing is approved that nobody would sign.
	CertFile, KeyFile string
	// Duration is the longest life of a certificate, and what a request gets that asks
	// for none.
	Duration time.Duration
	// Reserved tells addresses for which no server of a node gets a certificate without a
	// person: those of Services, Pods, load balancers and the API server. nil means none.
	Reserved func(netip.Addr) bool
	// Nodes reads Nodes past the cache: a node asks as soon as its addresses are stored,
	// and nothing would ask again. nil means the client.
	Nodes client.Reader
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Reconciler looks after one request at a time.
type Reconciler struct {
	client    client.Client
	nodes     client.Reader
	authority authority
	duration  time.Duration
	reserved  func(netip.Addr) bool
	clock     clock.PassiveClock
}

// Add registers the controller with mgr. Unusable files are an error now.
func Add(mgr ctrl.Manager, o Options) error {
	if o.CertFile == "" && o.KeyFile == "" {
		mgr.GetLogger().Info("No certificates are signed for nodes: --cluster-signing-cert-file is not set")
		return nil
	}
	if o.Nodes == nil {
		o.Nodes = mgr.GetAPIReader()
	}
	r, err := NewReconciler(mgr.GetClient(), o)
	if err != nil {
		return err
	}
	ours := predicate.NewPredicateFuncs(func(o client.Object) bool {
		request, isRequest := o.(*certificatesv1.CertificateSigningRequest)
		return isRequest && open(request)
	})
	err = ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&certificatesv1.CertificateSigningRequest{}, builder.WithPredicates(ours)).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// NewReconciler returns a Reconciler that works through c. It checks the authority's files.
func NewReconciler(c client.Client, o Options) (*Reconciler, error) {
	r := &Reconciler{client: c, nodes: o.Nodes, authority: authority{certFile: o.CertFile, keyFile: o.KeyFile}, duration: o.Duration, reserved: o.Reserved, clock: o.Clock}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	}
	if r.nodes == nil {
		r.nodes = c
	}
	if _, _, err := r.authority.load(); err != nil {
		return nil, err
	}
	return r, nil
}

// open tells whether something is left to do for request, and by us.
func open(request *certificatesv1.CertificateSigningRequest) bool {
	if request.Spec.SignerName != ClientSigner && request.Spec.SignerName != ServingSigner {
		return false
	}
	return request.DeletionTimestamp == nil && len(request.Status.Certificate) == 0 &&
		!has(request, certificatesv1.CertificateDenied) && !has(request, certificatesv1.CertificateFailed)
}

func has(request *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(request.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == kind
	})
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	request := &certificatesv1.CertificateSigningRequest{}
	if err := r.client.Get(ctx, req.NamespacedName, request); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !open(request) {
		return ctrl.Result{}, nil
	}
	asked, err := parse(request.Spec.Request)
	if err != nil {
		// The API server accepts none that cannot be read.
		return ctrl.Result{}, reconcile.TerminalError(fmt.Errorf("unable to parse csr %q: %w", request.Name, err))
	}
	if has(request, certificatesv1.CertificateApproved) {
		return ctrl.Result{}, r.sign(ctx, request.DeepCopy(), asked)
	}
	return ctrl.Result{}, r.approve(ctx, request.DeepCopy(), asked)
}

// approve approves request if RBAC lets its author ask for it; else a person decides.
func (r *Reconciler) approve(ctx context.Context, request *certificatesv1.CertificateSigningRequest, asked *x509.CertificateRequest) error {
	if err := validate(request.Spec.SignerName, asked, request.Spec.Usages); err != nil {
		// Left open, as upstream: if a person approves it, signing says what is wrong.
		klog.FromContext(ctx).V(2).Info("A certificate signing request is not for a node", "user", request.Spec.Username, "reason", err.Error())
		return nil
	}
	for _, permission := range permissions(request, asked) {
		if permission.addresses {
			if own, err := r.ownAddresses(ctx, asked); err != nil {
				return err
			} else if !own {
				continue
			}
		}
		allowed, err := r.allowed(ctx, request, permission.subresource)
		if err != nil {
			return err
		}
		if !allowed {
			continue
		}
		request.Status.Conditions = append(request.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue,
			Reason: "AutoApproved", Message: permission.message,
			LastUpdateTime: metav1.NewTime(r.clock.Now()),
		})
		if err := r.client.SubResource("approval").Update(ctx, request); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("error updating approval for csr: %w", err)
		}
		return nil
	}
	klog.FromContext(ctx).V(2).Info("A certificate signing request waits for a person", "user", request.Spec.Username)
	return nil
}

func (r *Reconciler) allowed(ctx context.Context, request *certificatesv1.CertificateSigningRequest, subresource string) (bool, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: request.Spec.Username, UID: request.Spec.UID, Groups: request.Spec.Groups,
		Extra: map[string]authorizationv1.ExtraValue{},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: certificatesv1.GroupName, Resource: "certificatesigningrequests",
			Verb: "create", Subresource: subresource, Version: "*",
		},
	}}
	for key, values := range request.Spec.Extra {
		review.Spec.Extra[key] = authorizationv1.ExtraValue(values)
	}
	// An answer, no object: nothing will show it in a cache.
	if err := r.client.Create(ctx, review, client.DisableReadYourWritesConsistency); err != nil {
		return false, fmt.Errorf("ask whether %s may have its certificate: %w", request.Spec.Username, err)
	}
	return review.Status.Allowed, nil
}

// ownAddresses tells whether every name that asked wants is one that its Node has.
func (r *Reconciler) ownAddresses(ctx context.Context, asked *x509.CertificateRequest) (bool, error) {
	node := &keelsonv1.Node{}
	if err := r.nodes.Get(ctx, client.ObjectKey{Name: nodeName(asked)}, node); apierrors.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("read Node %s: %w", nodeName(asked), err)
	}
	if !ownNames(node.Name, node.Status.Addresses, asked, r.reserved) {
		return false, nil
	}
	// A node writes its own addresses: it must not pass for another, among which is the
	// machine of the API server where that is a node.
	var all keelsonv1.NodeList
	if err := r.client.List(ctx, &all); err != nil {
		return false, fmt.Errorf("list Nodes: %w", err)
	}
	return !slices.ContainsFunc(all.Items, func(other keelsonv1.Node) bool {
		return other.Name != node.Name && sharesAddress(other.Status.Addresses, asked)
	}), nil
}

// sign signs what was approved, or says why it never will.
func (r *Reconciler) sign(ctx context.Context, request *certificatesv1.CertificateSigningRequest, asked *x509.CertificateRequest) error {
	if err := validate(request.Spec.SignerName, asked, request.Spec.Usages); err != nil {
		request.Status.Conditions = append(request.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue,
			Reason: "SignerValidationFailure", Message: err.Error(), LastUpdateTime: metav1.NewTime(r.clock.Now()),
		})
		if err := r.client.Status().Update(ctx, request); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("error adding failure condition for csr: %w", err)
		}
		return nil
	}
	life := lifetime(request.Spec.ExpirationSeconds, r.duration)
	certificate, err := r.authority.sign(asked, request.Spec.Usages, life, r.clock.Now())
	if err != nil {
		return fmt.Errorf("error auto signing csr: %w", err)
	}
	request.Status.Certificate = certificate
	if err := r.client.Status().Update(ctx, request); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("error updating signature for csr: %w", err)
	}
	klog.FromContext(ctx).Info("Signed a node's certificate", "signer", request.Spec.SignerName, "subject", asked.Subject.CommonName)
	return nil
}
