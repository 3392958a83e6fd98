package scheduler

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/planner"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// workloads reads, from informers, what Pods belong to.
type workloads struct{ cached client.Reader }

var _ plugins.Workloads = workloads{}

// Selector is what the Services that select the Pod and its controller select. What
// cannot be read does not count, as upstream.
func (w workloads) Selector(pod *state.PodInfo) labels.Selector {
	ctx := context.Background() // informers answer at once
	set := labels.Set{}
	services := &keelsonv1.ServiceList{}
	if err := w.cached.List(ctx, services, client.InNamespace(pod.Pod.Namespace), client.UnsafeDisableDeepCopy); err == nil {
		for i := range services.Items {
			selector := services.Items[i].Spec.Selector
			if len(selector) > 0 && labels.Set(selector).AsSelectorPreValidated().Matches(pod.Labels()) {
				set = labels.Merge(set, selector)
			}
		}
	}
	owner := metav1.GetControllerOfNoCopy(pod.Pod)
	if owner == nil {
		return set.AsSelector()
	}
	key := client.ObjectKey{Namespace: pod.Pod.Namespace, Name: owner.Name}
	switch {
	case owner.APIVersion == keelsonv1.GroupVersion.String() && owner.Kind == "ReplicationController":
		rc := &keelsonv1.ReplicationController{}
		if err := w.cached.Get(ctx, key, rc); err == nil {
			set = labels.Merge(set, rc.Spec.Selector)
		}
	case owner.APIVersion == appsv1.GroupVersion.String() && owner.Kind == "ReplicaSet":
		rs := &appsv1.ReplicaSet{}
		if err := w.cached.Get(ctx, key, rs); err == nil {
			return add(set.AsSelector(), rs.Spec.Selector)
		}
	case owner.APIVersion == appsv1.GroupVersion.String() && owner.Kind == "StatefulSet":
		sts := &appsv1.StatefulSet{}
		if err := w.cached.Get(ctx, key, sts); err == nil {
			return add(set.AsSelector(), sts.Spec.Selector)
		}
	}
	return set.AsSelector()
}

func add(selector labels.Selector, more *metav1.LabelSelector) labels.Selector {
	parsed, err := metav1.LabelSelectorAsSelector(more)
	if err != nil {
		return selector
	}
	requirements, _ := parsed.Requirements()
	return selector.Add(requirements...)
}

// budgets are all PodDisruptionBudgets, for a profile that looks for victims.
func (s *scheduler) budgets(ctx context.Context, p *profile) []planner.Budget {
	if p.Profile.Preemption == nil {
		return nil
	}
	list := &policyv1.PodDisruptionBudgetList{}
	if err := s.cached.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		klog.FromContext(ctx).Error(err, "Could not list PodDisruptionBudgets, going on without")
		return nil
	}
	budgets := make([]planner.Budget, 0, len(list.Items))
	for i := range list.Items {
		pdb := &list.Items[i]
		selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
		if err != nil {
			continue // selects nothing
		}
		budgets = append(budgets, planner.Budget{
			Namespace: pdb.Namespace, Selector: selector, Allowed: pdb.Status.DisruptionsAllowed,
			Disrupted: func(pod string) bool { _, is := pdb.Status.DisruptedPods[pod]; return is },
		})
	}
	return budgets
}
