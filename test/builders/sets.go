package builders

import (
	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// template is that of a workload called name: Pods labelled app=<name>.
func template(name string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
		Spec:       MakePod("").Obj().Spec,
	}
}

func selector(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

// DaemonSetBuilder builds a DaemonSet.
type DaemonSetBuilder struct{ ds appsv1.DaemonSet }

// MakeDaemonSet starts a DaemonSet whose Pods are labelled app=<name>, selected by that
// label; everything else is left to be defaulted.
func MakeDaemonSet(name string) *DaemonSetBuilder {
	b := &DaemonSetBuilder{}
	b.ds.Name, b.ds.Namespace = name, DefaultNamespace
	b.ds.Spec.Selector, b.ds.Spec.Template = selector(name), template(name)
	return b
}

// Obj returns the DaemonSet.
func (b *DaemonSetBuilder) Obj() *appsv1.DaemonSet { return b.ds.DeepCopy() }

// Namespace sets the namespace.
func (b *DaemonSetBuilder) Namespace(ns string) *DaemonSetBuilder { b.ds.Namespace = ns; return b }

// UID sets the UID.
func (b *DaemonSetBuilder) UID(uid string) *DaemonSetBuilder { b.ds.UID = types.UID(uid); return b }

// MinReadySeconds sets spec.minReadySeconds.
func (b *DaemonSetBuilder) MinReadySeconds(n int32) *DaemonSetBuilder {
	b.ds.Spec.MinReadySeconds = n
	return b
}

// HistoryLimit sets spec.revisionHistoryLimit.
func (b *DaemonSetBuilder) HistoryLimit(n int32) *DaemonSetBuilder {
	b.ds.Spec.RevisionHistoryLimit = new(n)
	return b
}

// OnDelete leaves updates to those who delete Pods.
func (b *DaemonSetBuilder) OnDelete() *DaemonSetBuilder {
	b.ds.Spec.UpdateStrategy = upstreamappsv1.DaemonSetUpdateStrategy{Type: upstreamappsv1.OnDeleteDaemonSetStrategyType}
	return b
}

// RollingUpdate sets the limits of updates, each a number or a percentage.
func (b *DaemonSetBuilder) RollingUpdate(maxSurge, maxUnavailable string) *DaemonSetBuilder {
	b.ds.Spec.UpdateStrategy = upstreamappsv1.DaemonSetUpdateStrategy{
		Type: upstreamappsv1.RollingUpdateDaemonSetStrategyType,
		RollingUpdate: &upstreamappsv1.RollingUpdateDaemonSet{
			MaxSurge: new(intstr.Parse(maxSurge)), MaxUnavailable: new(intstr.Parse(maxUnavailable)),
		},
	}
	return b
}

// Template changes the template.
func (b *DaemonSetBuilder) Template(change func(*corev1.PodTemplateSpec)) *DaemonSetBuilder {
	change(&b.ds.Spec.Template)
	return b
}

// StatefulSetBuilder builds a StatefulSet.
type StatefulSetBuilder struct{ set appsv1.StatefulSet }

// MakeStatefulSet starts a StatefulSet of replicas Pods labelled app=<name>, selected by
// that label, with a service of the same name; everything else is left to be defaulted.
func MakeStatefulSet(name string, replicas int32) *StatefulSetBuilder {
	b := &StatefulSetBuilder{}
	b.set.Name, b.set.Namespace = name, DefaultNamespace
	b.set.Spec.Replicas, b.set.Spec.ServiceName = new(replicas), name
	b.set.Spec.Selector, b.set.Spec.Template = selector(name), template(name)
	return b
}

// Obj returns the StatefulSet.
func (b *StatefulSetBuilder) Obj() *appsv1.StatefulSet { return b.set.DeepCopy() }

// Namespace sets the namespace.
func (b *StatefulSetBuilder) Namespace(ns string) *StatefulSetBuilder { b.set.Namespace = ns; return b }

// UID sets the UID.
func (b *StatefulSetBuilder) UID(uid string) *StatefulSetBuilder {
	b.set.UID = types.UID(uid)
	return b
}

// Parallel lets Pods start and stop in any order.
func (b *StatefulSetBuilder) Parallel() *StatefulSetBuilder {
	b.set.Spec.PodManagementPolicy = upstreamappsv1.ParallelPodManagement
	return b
}

// Start sets the first number.
func (b *StatefulSetBuilder) Start(ordinal int32) *StatefulSetBuilder {
	b.set.Spec.Ordinals = &upstreamappsv1.StatefulSetOrdinals{Start: ordinal}
	return b
}

// MinReadySeconds sets spec.minReadySeconds.
func (b *StatefulSetBuilder) MinReadySeconds(n int32) *StatefulSetBuilder {
	b.set.Spec.MinReadySeconds = n
	return b
}

// HistoryLimit sets spec.revisionHistoryLimit.
func (b *StatefulSetBuilder) HistoryLimit(n int32) *StatefulSetBuilder {
	b.set.Spec.RevisionHistoryLimit = new(n)
	return b
}

// OnDelete leaves updates to those who delete Pods.
func (b *StatefulSetBuilder) OnDelete() *StatefulSetBuilder {
	b.set.Spec.UpdateStrategy.Type = upstreamappsv1.OnDeleteStatefulSetStrategyType
	return b
}

// RollingUpdate sets the partition, and the limit of updates: a number or a percentage.
func (b *StatefulSetBuilder) RollingUpdate(partition int32, maxUnavailable string) *StatefulSetBuilder {
	b.set.Spec.UpdateStrategy = upstreamappsv1.StatefulSetUpdateStrategy{
		Type: upstreamappsv1.RollingUpdateStatefulSetStrategyType,
		RollingUpdate: &upstreamappsv1.RollingUpdateStatefulSetStrategy{
			Partition: new(partition), MaxUnavailable: new(intstr.Parse(maxUnavailable)),
		},
	}
	return b
}

// Template changes the template.
func (b *StatefulSetBuilder) Template(change func(*corev1.PodTemplateSpec)) *StatefulSetBuilder {
	change(&b.set.Spec.Template)
	return b
}
