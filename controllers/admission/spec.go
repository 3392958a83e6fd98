package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// withSpec is the part of an object that most kinds are judged by.
type withSpec[S any] struct {
	Spec S `json:"spec"`
}

// specReview is the review of a kind whose spec takes upstream's defaults as they are.
// check lists what is not implemented, update (nil: nothing) what may not change.
func specReview[S any](check func(*S, *field.Path) field.ErrorList, update func(spec, old *S) field.ErrorList) func(context.Context, change) (outcome, error) {
	return func(_ context.Context, c change) (outcome, error) {
		_, object, old, err := decodeAll[withSpec[S]](c)
		if err != nil {
			return outcome{}, err
		}
		errs := check(&object.Spec, specPath)
		if old != nil {
			errs = ratchet(errs, check(&old.Spec, specPath))
			if update != nil {
				errs = append(errs, update(&object.Spec, &old.Spec)...)
			}
		}
		return outcome{set: map[string]any{"spec": object.Spec}, errors: errs}, nil
	}
}

// immutable is upstream's sentence about a field that may not change.
const immutable = "field is immutable"

// fixed reports a field that may not change.
func fixed(same bool, path *field.Path, value any) field.ErrorList {
	if same {
		return nil
	}
	return field.ErrorList{field.Invalid(path, value, immutable)}
}
