package admission

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// invalid is the answer to an object with errors: upstream's causes first, then
// Keelson's, leaving out those of a field that upstream complained about already.
func invalid(k kind, name string, upstream []metav1.StatusCause, own field.ErrorList) *metav1.Status {
	causes := append([]metav1.StatusCause{}, upstream...)
	named := map[string]bool{}
	for _, cause := range upstream {
		named[cause.Field] = true
	}
	for _, e := range own {
		if !named[e.Field] {
			causes = append(causes, metav1.StatusCause{Type: metav1.CauseType(e.Type), Field: e.Field, Message: e.ErrorBody()})
		}
	}
	return &metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnprocessableEntity,
		Reason:  metav1.StatusReasonInvalid,
		Message: fmt.Sprintf("%s.%s %q is invalid: %s", k.name, k.stored.Group, name, sentence(causes)),
		Details: &metav1.StatusDetails{Group: k.stored.Group, Kind: k.name, Name: name, Causes: causes},
	}
}

func sentence(causes []metav1.StatusCause) string {
	var all []string
	for _, c := range causes {
		all = append(all, c.Field+": "+c.Message)
	}
	if len(all) == 1 {
		return all[0]
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// badRequest is the answer to an object that is not of its kind.
func badRequest(message string) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: message}
}

// unavailable is the answer when nobody could judge the object.
func unavailable(err error) *metav1.Status {
	return &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable,
		Message: fmt.Sprintf("the object could not be checked, try again: %v", err),
	}
}

// refusal finds upstream's own answer in err; ok is false for anything that is no
// judgement of the object.
func refusal(err error) (status metav1.Status, ok bool) {
	var api apierrors.APIStatus
	if !errors.As(err, &api) {
		return metav1.Status{}, false
	}
	status = api.Status()
	switch status.Reason {
	case metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest, metav1.StatusReasonForbidden, metav1.StatusReasonRequestEntityTooLarge:
		return status, true
	}
	return status, false
}
