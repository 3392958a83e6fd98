package tokens

import (
	"context"
	"fmt"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/internal/boundtoken"
)

// serveRequest issues a token that is bound to a Pod or a Node. The API server is asked
// twice: for a token that is not bound, which tells whether the caller may have one and whom
// it is for when the request does not say, and then for the one that is. An error has not
// been answered.
func (h *Handler) serveRequest(w http.ResponseWriter, r *http.Request, info *request.RequestInfo, body []byte) error {
	wanted := &authenticationv1.TokenRequest{}
	format, ok := h.negotiate(r)
	if !ok || !h.decode(r, body, requestKind, wanted) || !isOurs(wanted.Spec.BoundObjectRef) {
		return h.relay(w, r, body)
	}
	reference := wanted.Spec.BoundObjectRef
	wanted.Spec.BoundObjectRef = nil
	plain := wanted.DeepCopy()
	answered, err := h.ask(w, r, format, plain)
	if err != nil || !answered {
		return err
	}
	bound, err := h.boundObject(r.Context(), info.Namespace, info.Name, reference)
	if err != nil {
		return err
	}
	wanted.Spec.Audiences = append(boundtoken.Without(plain.Spec.Audiences), boundtoken.Audience(bound))
	w.Header().Del("Warning") // the second answer repeats them
	answered, err = h.ask(w, r, format, wanted)
	if err != nil || !answered {
		return err
	}
	wanted.Spec.Audiences, wanted.Spec.BoundObjectRef = boundtoken.Without(wanted.Spec.Audiences), reference
	h.write(w, r, format, wanted)
	return nil
}

// isOurs says whether a token is to be bound to a kind that Keelson stores.
func isOurs(ref *authenticationv1.BoundObjectReference) bool {
	if ref == nil {
		return false
	}
	kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	return kind.Group == corev1.GroupName && (kind.Kind == boundtoken.KindPod || kind.Kind == boundtoken.KindNode)
}

// boundObject finds what a token of an account is to be bound to, or refuses in upstream's
// words.
func (h *Handler) boundObject(ctx context.Context, namespace, account string, ref *authenticationv1.BoundObjectReference) (boundtoken.Object, error) {
	var uid types.UID
	if ref.Kind == boundtoken.KindPod {
		pod, err := h.Verifier.pod(ctx, namespace, ref.Name)
		if err != nil {
			return boundtoken.Object{}, err
		}
		if pod.Spec.ServiceAccountName != account {
			return boundtoken.Object{}, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", account))
		}
		uid = pod.UID
	} else {
		node, err := h.Verifier.node(ctx, ref.Name)
		if err != nil {
			return boundtoken.Object{}, err
		}
		uid = node.UID
	}
	if ref.UID != "" && ref.UID != uid {
		kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
		return boundtoken.Object{}, apierrors.NewConflict(schema.GroupResource{Group: kind.Group, Resource: kind.Kind}, ref.Name,
			fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return boundtoken.Object{Kind: ref.Kind, Name: ref.Name, UID: uid}, nil
}
