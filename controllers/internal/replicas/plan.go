package replicas

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// Burst is the largest number of Pods that one plan creates or deletes.
const Burst = 500

// Owner is the workload whose Pods are counted.
type Owner struct {
	podcontrol.Owner
	// Selector must select something in particular: an empty one would claim every
	// Pod of the namespace, so Validate refuses it.
	Selector labels.Selector
	// Replicas is the wanted count.
	Replicas int32
	// Template is what a new Pod is made from.
	Template *corev1.PodTemplateSpec
	// MinReadySeconds is how long a Pod must be ready to count as available.
	MinReadySeconds int32
	// Invalid says why Selector could not be read.
	Invalid error
}

func (o *Owner) templateLabels() map[string]string {
	if o.Template == nil {
		return nil
	}
	return o.Template.Labels
}

// Validate says why no plan can be made for the owner, in words for the user.
func (o *Owner) Validate() error {
	switch {
	case o.Invalid != nil:
		return o.Invalid
	case o.Template == nil:
		return fmt.Errorf("spec.template is missing: say what Pods to create")
	case o.Selector == nil || o.Selector.Empty():
		return fmt.Errorf("spec.selector is empty and so are the template's labels: set spec.template.metadata.labels")
	case !o.Selector.Matches(labels.Set(o.Template.Labels)):
		return fmt.Errorf("spec.template.metadata.labels %q do not match spec.selector %q: every new Pod would be lost at once",
			labels.Set(o.Template.Labels), o.Selector)
	}
	return nil
}

// Input is everything that a plan depends on.
type Input struct {
	Owner Owner
	// Pods are those that the owner controls and those of its namespace that nobody
	// controls, in any order. Plan does not change them.
	Pods []*keelsonv1.Pod
	// Related are Pods of sibling owners (the other ReplicaSets of a Deployment)
	// beside the owner's: a node that runs many of them gives up one first.
	Related []*keelsonv1.Pod
	// Now is the reference for comparing ages.
	Now time.Time
}

// Plan is what brings an owner closer to its wanted count.
type Plan struct {
	// Active are the Pods that count, those in Adopt included.
	Active []*keelsonv1.Pod
	// Adopt are Pods without a controller that the selector matches.
	Adopt []*keelsonv1.Pod
	// Release are Pods of the owner that the selector no longer matches.
	Release []*keelsonv1.Pod
	// Create is how many Pods are missing, up to Burst.
	Create int
	// Delete are the surplus Pods, best victim first, up to Burst.
	Delete []*keelsonv1.Pod
	// Terminating is how many of the owner's Pods are being deleted and have not ended.
	Terminating int32
	// Reason says why Pods are created or deleted; empty when none are.
	Reason string
}

// MakePlan decides. An owner that is being deleted changes nothing any more, but
// its Pods still count.
func MakePlan(in Input) Plan {
	plan := planClaims(in)
	if in.Owner.Deleting() {
		return plan
	}
	want := int(in.Owner.Replicas)
	switch diff := len(plan.Active) - want; {
	case diff < 0:
		plan.Create = min(-diff, Burst)
		plan.Reason = fmt.Sprintf("Too few replicas: %d of %d", len(plan.Active), want)
	case diff > 0:
		plan.Delete = planVictims(plan.Active, in.Related, min(diff, Burst), in.Now)
		plan.Reason = fmt.Sprintf("Too many replicas: %d of %d", len(plan.Active), want)
	}
	return plan
}

// planClaims leaves out the Pods that have ended: they neither count nor change hands.
func planClaims(in Input) Plan {
	active := make([]*keelsonv1.Pod, 0, len(in.Pods))
	var terminating int32
	for _, pod := range in.Pods {
		switch {
		case podstatus.IsActive(pod):
			active = append(active, pod)
		case !podstatus.IsFinished(pod) && metav1.IsControlledBy(pod, in.Owner.Object) && in.Owner.Selector.Matches(labels.Set(pod.Labels)):
			terminating++
		}
	}
	claims := podcontrol.PlanClaims(in.Owner.Owner, in.Owner.Selector, active)
	return Plan{Active: claims.Mine, Adopt: claims.Adopt, Release: claims.Release, Terminating: terminating}
}
