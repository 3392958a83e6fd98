package gateway

import (
	"context"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/internal/admissionhooks"
)

// Hooks evaluates webhooks and policies for what no API server sees: connections to
// Pods, nodes and Services, evictions, and the bindings that clients ask for.
type Hooks interface {
	Mutate(context.Context, *admissionhooks.Request) (admissionhooks.Outcome, error)
	Validate(context.Context, *admissionhooks.Request) (admissionhooks.Outcome, error)
}

// admitter asks hooks about requests of clients.
type admitter struct{ hooks Hooks }

// admit completes asked with who asks, lets hooks change its object and judge it, and
// passes on what they warn of. It returns the changed object, nil for one that is left
// alone.
func (a admitter) admit(w http.ResponseWriter, r *http.Request, asked *admissionhooks.Request) (map[string]any, error) {
	if a.hooks == nil {
		return nil, nil
	}
	caller, ok := request.UserFrom(r.Context())
	if !ok {
		caller = &user.DefaultInfo{}
	}
	asked.User = caller
	mutated, err := a.hooks.Mutate(r.Context(), asked)
	warn(w, mutated.Warnings)
	if err != nil {
		return nil, asStatus(err)
	}
	if mutated.Object != nil {
		asked.Object = mutated.Object
	}
	validated, err := a.hooks.Validate(r.Context(), asked)
	warn(w, validated.Warnings)
	if err != nil {
		return nil, asStatus(err)
	}
	return mutated.Object, nil
}

// asStatus makes an error that has no code an internal one, as an API server does.
func asStatus(err error) error {
	if apierrors.ReasonForError(err) == "" {
		return apierrors.NewInternalError(err)
	}
	return err
}

// warningCode is that of the warnings of Kubernetes.
const warningCode = 299

func warn(w http.ResponseWriter, warnings []string) {
	for _, text := range warnings {
		if header, err := net.NewWarningHeader(warningCode, "-", text); err == nil {
			w.Header().Add("Warning", header)
		}
	}
}
