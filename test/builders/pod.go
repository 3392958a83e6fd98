// Package builders makes API objects for tests in one readable line:
//
//	builders.MakePod("a").Node("n").Label("app", "web").Ready().Obj()
//
// A builder sets what it is told and what every object of that kind needs to be
// accepted by the API server; nothing else. It is for tests only.
package builders

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// DefaultNamespace is the namespace of a built object that names none.
const DefaultNamespace = "default"

// PodBuilder builds a Pod.
type PodBuilder struct{ pod keelsonv1.Pod }

// MakePod starts a Pod with one container named "main".
func MakePod(name string) *PodBuilder {
	b := &PodBuilder{}
	b.pod.Name = name
	b.pod.Namespace = DefaultNamespace
	b.pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "test.invalid/main:1"}}
	return b
}

// Obj returns the Pod.
func (b *PodBuilder) Obj() *keelsonv1.Pod { return b.pod.DeepCopy() }

// Namespace sets the namespace.
func (b *PodBuilder) Namespace(ns string) *PodBuilder { b.pod.Namespace = ns; return b }

// UID sets the UID.
func (b *PodBuilder) UID(uid string) *PodBuilder { b.pod.UID = types.UID(uid); return b }

// Label sets one label.
func (b *PodBuilder) Label(key, value string) *PodBuilder {
	setString(&b.pod.Labels, key, value)
	return b
}

// Annotation sets one annotation.
func (b *PodBuilder) Annotation(key, value string) *PodBuilder {
	setString(&b.pod.Annotations, key, value)
	return b
}

// Finalizer adds a finalizer.
func (b *PodBuilder) Finalizer(name string) *PodBuilder {
	b.pod.Finalizers = append(b.pod.Finalizers, name)
	return b
}

// Node binds the Pod to a node.
func (b *PodBuilder) Node(name string) *PodBuilder { b.pod.Spec.NodeName = name; return b }

// Container adds a container.
func (b *PodBuilder) Container(c corev1.Container) *PodBuilder {
	b.pod.Spec.Containers = append(b.pod.Spec.Containers, c)
	return b
}

// Port adds a container port to the last container.
func (b *PodBuilder) Port(name string, port int32, protocol corev1.Protocol) *PodBuilder {
	last := &b.pod.Spec.Containers[len(b.pod.Spec.Containers)-1]
	last.Ports = append(last.Ports, corev1.ContainerPort{Name: name, ContainerPort: port, Protocol: protocol})
	return b
}

// Hostname sets spec.hostname and spec.subdomain.
func (b *PodBuilder) Hostname(hostname, subdomain string) *PodBuilder {
	b.pod.Spec.Hostname, b.pod.Spec.Subdomain = hostname, subdomain
	return b
}

// Owner makes owner the controller of the Pod.
func (b *PodBuilder) Owner(apiVersion, kind, name, uid string) *PodBuilder {
	b.pod.OwnerReferences = append(b.pod.OwnerReferences, metav1.OwnerReference{
		APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID(uid),
		Controller: new(true), BlockOwnerDeletion: new(true),
	})
	return b
}

// Created sets the creation time.
func (b *PodBuilder) Created(at time.Time) *PodBuilder {
	b.pod.CreationTimestamp = metav1.NewTime(at)
	return b
}

// Deleting marks the Pod as being deleted.
func (b *PodBuilder) Deleting(at time.Time) *PodBuilder {
	b.pod.DeletionTimestamp = new(metav1.NewTime(at))
	return b
}

// Phase sets status.phase.
func (b *PodBuilder) Phase(phase corev1.PodPhase) *PodBuilder { b.pod.Status.Phase = phase; return b }

// IP sets the Pod's address.
func (b *PodBuilder) IP(ip string) *PodBuilder {
	b.pod.Status.PodIP = ip
	b.pod.Status.PodIPs = []corev1.PodIP{{IP: ip}}
	return b
}

// Ready makes the Pod running and ready since the given time, or since the epoch.
func (b *PodBuilder) Ready(since ...time.Time) *PodBuilder {
	return b.condition(corev1.ConditionTrue, since)
}

// NotReady makes the Pod running and not ready.
func (b *PodBuilder) NotReady(since ...time.Time) *PodBuilder {
	return b.condition(corev1.ConditionFalse, since)
}

// Restarts gives the first container a restart count.
func (b *PodBuilder) Restarts(n int32) *PodBuilder {
	b.pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: b.pod.Spec.Containers[0].Name, Image: b.pod.Spec.Containers[0].Image, RestartCount: n,
	}}
	return b
}

// DeletionCost sets the annotation that ranks a Pod among the victims of a scale down.
func (b *PodBuilder) DeletionCost(cost int) *PodBuilder {
	return b.Annotation(corev1.PodDeletionCost, strconv.Itoa(cost))
}

func (b *PodBuilder) condition(ready corev1.ConditionStatus, since []time.Time) *PodBuilder {
	at := time.Unix(0, 0)
	if len(since) > 0 {
		at = since[0]
	}
	b.pod.Status.Phase = corev1.PodRunning
	b.pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.NewTime(at),
	}}
	return b
}

func setString(m *map[string]string, key, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[key] = value
}
