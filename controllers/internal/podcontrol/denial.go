package podcontrol

import (
	"errors"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// quotaDenial is how the API server begins what Keelson's own webhook says of a Pod that
// exceeds a quota; upstream's words, which people read in events, begin after it.
const quotaDenial = `admission webhook "quota.keelson.dev" denied the request: `

// withoutDenial returns err as upstream's own admission would have said it.
func withoutDenial(err error) error {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || !strings.HasPrefix(status.ErrStatus.Message, quotaDenial) {
		return err
	}
	plain := &apierrors.StatusError{ErrStatus: *status.ErrStatus.DeepCopy()}
	plain.ErrStatus.Message = strings.TrimPrefix(plain.ErrStatus.Message, quotaDenial)
	return plain
}
