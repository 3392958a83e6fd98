package replicas

import (
	"context"
	"errors"

	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/controllers/internal/slowstart"
)

// Engine executes plans.
type Engine struct {
	podcontrol.Control
}

// Claim adopts and releases what plan says. After an error, including that of a Pod
// that vanished, the plan's counts no longer hold: do not Scale, plan again.
func (e *Engine) Claim(ctx context.Context, owner *Owner, plan *Plan) error {
	return e.Control.Claim(ctx, owner.Owner, podcontrol.Claims{Adopt: plan.Adopt, Release: plan.Release})
}

// Scale creates and deletes what plan says. What it could not do is in the error and
// in events; a Pod that is gone already is no error, and neither is a namespace that
// is being deleted.
func (e *Engine) Scale(ctx context.Context, owner *Owner, plan *Plan) error {
	if plan.Reason != "" {
		klog.FromContext(ctx).V(2).Info("Scaling", "reason", plan.Reason, "create", plan.Create, "delete", len(plan.Delete))
	}
	_, createErr := slowstart.Run(ctx, plan.Create, func(ctx context.Context, _ int) error {
		return e.Create(ctx, owner.Owner, podcontrol.Render(owner.Owner, owner.Template))
	})
	if errors.Is(createErr, podcontrol.ErrNamespaceTerminating) {
		createErr = nil
	}
	deleteErr := slowstart.All(ctx, len(plan.Delete), func(ctx context.Context, i int) error {
		return e.Delete(ctx, owner.Owner, plan.Delete[i])
	})
	return errors.Join(createErr, deleteErr)
}
