package tokens

import (
	"context"
	"errors"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// serveReview says whose token it is, and of which Pod. An error has not been answered.
func (h *Handler) serveReview(w http.ResponseWriter, r *http.Request, body []byte) error {
	review := &authenticationv1.TokenReview{}
	format, ok := h.negotiate(r)
	if !ok || !h.decode(r, body, reviewKind, review) {
		return h.relay(w, r, body)
	}
	token := review.Spec.Token
	answered, err := h.ask(w, r, format, review)
	if err != nil || !answered {
		return err
	}
	if review.Status.Authenticated {
		if err := h.complete(r.Context(), token, &review.Status); err != nil {
			return err
		}
	}
	h.write(w, r, format, review)
	return nil
}

// complete adds to the API server's verdict on a token what it is bound to, or takes it back.
// The error is that of an object that cannot be read.
func (h *Handler) complete(ctx context.Context, token string, status *authenticationv1.TokenReviewStatus) error {
	extra, err := h.Verifier.Verify(ctx, token, status.User.Username)
	var unread apierrors.APIStatus
	if errors.As(err, &unread) {
		return err
	}
	*status = verdict(*status, extra, err)
	return nil
}

// verdict is the API server's status with what the token is bound to, or why it is not
// valid.
func verdict(status authenticationv1.TokenReviewStatus, extra map[string][]string, invalid error) authenticationv1.TokenReviewStatus {
	if invalid != nil {
		return authenticationv1.TokenReviewStatus{Error: "[invalid bearer token, " + invalid.Error() + "]"}
	}
	for key, values := range extra {
		if status.User.Extra == nil {
			status.User.Extra = map[string]authenticationv1.ExtraValue{}
		}
		status.User.Extra[key] = values
	}
	return status
}
