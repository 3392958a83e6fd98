package podcontrol

import (
	"errors"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// denials are how the API server begins what Keelson's own webhooks say of a Pod that
// exceeds a quota, or that a webhook or policy of the cluster's users refuses. Upstream's
// words, which people read in events, begin after it.
func denials() []string {
	return []string{
		`admission webhook "quota.keelson.dev" denied the request: `,
		`admission webhook "hooks.keelson.dev" denied the request: `,
		`admission webhook "system-hooks.keelson.dev" denied the request: `,
	}
}

// withoutDenial returns err as upstream's own admission would have said it.
func withoutDenial(err error) error {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok {
		return err
	}
	for _, denial := range denials() {
		message, ours := strings.CutPrefix(status.ErrStatus.Message, denial)
		if ours {
			plain := &apierrors.StatusError{ErrStatus: *status.ErrStatus.DeepCopy()}
			plain.ErrStatus.Message = message
			return plain
		}
	}
	return err
}
