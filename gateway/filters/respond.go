package filters

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/client-go/kubernetes/scheme"
)

// Refuse answers with a Status in the form that the client asked for, and notes why.
func Refuse(w http.ResponseWriter, r *http.Request, err error) {
	NoteRefused(r.Context(), err.Error())
	responsewriters.RespondWithError(w, r, err, scheme.Codecs)
}

func refuseBadRequest(w http.ResponseWriter, r *http.Request, err error) {
	// The rest of what came over this connection is not to be trusted either.
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	Refuse(w, r, apierrors.NewBadRequest(err.Error()))
}
