package admissionhooks

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/warning"
)

// Mutates says whether anything is configured that may change what r is about; true while
// that is not known.
func (h *Hooks) Mutates(point Point) bool {
	now := h.now.Load()
	if now == nil {
		return true
	}
	for _, c := range *now {
		if c.kind.mutating && c.points[point] {
			return true
		}
	}
	return false
}

// Mutate lets the mutating policies and webhooks that r matches change it: all of them
// once, and those that ask for it once more after others changed something, in upstream's
// order. An error is the refusal to answer with.
func (h *Hooks) Mutate(ctx context.Context, r *Request) (Outcome, error) {
	applying, err := h.applying(ctx, r.Point(), true)
	if err != nil || len(applying) == 0 {
		return Outcome{}, err
	}
	a := newAttributes(r)
	ctx = warning.WithWarningRecorder(ctx, a)
	err = h.admit(ctx, applying, a)
	if again := a.GetReinvocationContext(); err == nil && again.ShouldReinvoke() {
		again.SetIsReinvoke()
		err = h.admit(ctx, applying, a)
	}
	outcome := a.outcome()
	if err != nil || r.Object == nil {
		return outcome, err
	}
	after, ok := a.GetObject().(*unstructured.Unstructured)
	if !ok {
		return outcome, fmt.Errorf("an admission plug-in made a %T of the object", a.GetObject())
	}
	if !reflect.DeepEqual(after.Object, r.Object) {
		outcome.Object = after.Object
	}
	return outcome, nil
}

func (h *Hooks) admit(ctx context.Context, applying []covered, a admission.Attributes) error {
	for _, c := range applying {
		plugin, ok := c.plugin.(admission.MutationInterface)
		if !ok || !plugin.Handles(a.GetOperation()) {
			continue
		}
		if err := plugin.Admit(ctx, a, h.objects); err != nil {
			return err
		}
	}
	return nil
}

// Validate asks the validating policies and webhooks that r matches. An error is the
// refusal to answer with.
func (h *Hooks) Validate(ctx context.Context, r *Request) (Outcome, error) {
	applying, err := h.applying(ctx, r.Point(), false)
	if err != nil || len(applying) == 0 {
		return Outcome{}, err
	}
	a := newAttributes(r)
	ctx = warning.WithWarningRecorder(ctx, a)
	for _, c := range applying {
		plugin, ok := c.plugin.(admission.ValidationInterface)
		if !ok || !plugin.Handles(a.GetOperation()) {
			continue
		}
		if err := plugin.Validate(ctx, a, h.objects); err != nil {
			return a.outcome(), err
		}
	}
	return a.outcome(), nil
}
