package builders

import (
	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// ReplicaSetBuilder builds a ReplicaSet.
type ReplicaSetBuilder struct{ rs appsv1.ReplicaSet }

// MakeReplicaSet starts a ReplicaSet with replicas copies of a Pod labelled app=<name>,
// selected by that label, which it has itself, too.
func MakeReplicaSet(name string, replicas int32) *ReplicaSetBuilder {
	b := &ReplicaSetBuilder{}
	b.rs.Name, b.rs.Namespace = name, DefaultNamespace
	b.rs.Labels = map[string]string{"app": name}
	b.rs.Spec = upstreamappsv1.ReplicaSetSpec{
		Replicas: new(replicas),
		Selector: selector(name),
		Template: template(name),
	}
	return b
}

// Obj returns the ReplicaSet.
func (b *ReplicaSetBuilder) Obj() *appsv1.ReplicaSet { return b.rs.DeepCopy() }

// Namespace sets the namespace.
func (b *ReplicaSetBuilder) Namespace(ns string) *ReplicaSetBuilder { b.rs.Namespace = ns; return b }

// Requirement adds a set-based requirement to the selector.
func (b *ReplicaSetBuilder) Requirement(key string, op metav1.LabelSelectorOperator, values ...string) *ReplicaSetBuilder {
	b.rs.Spec.Selector.MatchExpressions = append(b.rs.Spec.Selector.MatchExpressions,
		metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: values})
	return b
}

// Template changes the template.
func (b *ReplicaSetBuilder) Template(change func(*corev1.PodTemplateSpec)) *ReplicaSetBuilder {
	change(&b.rs.Spec.Template)
	return b
}

// DeploymentBuilder builds a Deployment.
type DeploymentBuilder struct{ d appsv1.Deployment }

// MakeDeployment starts a Deployment with replicas copies of a Pod labelled app=<name>,
// selected by that label.
func MakeDeployment(name string, replicas int32) *DeploymentBuilder {
	b := &DeploymentBuilder{}
	b.d.Name, b.d.Namespace = name, DefaultNamespace
	b.d.Spec = upstreamappsv1.DeploymentSpec{
		Replicas: new(replicas),
		Selector: selector(name),
		Template: template(name),
	}
	return b
}

// Obj returns the Deployment.
func (b *DeploymentBuilder) Obj() *appsv1.Deployment { return b.d.DeepCopy() }

// Namespace sets the namespace.
func (b *DeploymentBuilder) Namespace(ns string) *DeploymentBuilder { b.d.Namespace = ns; return b }

// Bounds makes the strategy a rolling update with these bounds.
func (b *DeploymentBuilder) Bounds(surge, unavailable int32) *DeploymentBuilder {
	b.d.Spec.Strategy.RollingUpdate = &upstreamappsv1.RollingUpdateDeployment{
		MaxSurge: new(intstr.FromInt32(surge)), MaxUnavailable: new(intstr.FromInt32(unavailable)),
	}
	return b
}

// Recreate makes the strategy Recreate.
func (b *DeploymentBuilder) Recreate() *DeploymentBuilder {
	b.d.Spec.Strategy.Type = upstreamappsv1.RecreateDeploymentStrategyType
	return b
}

// Spec changes the spec.
func (b *DeploymentBuilder) Spec(change func(*upstreamappsv1.DeploymentSpec)) *DeploymentBuilder {
	change(&b.d.Spec)
	return b
}
