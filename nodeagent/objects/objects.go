// Package objects gives the node agent the ConfigMaps and Secrets that the Pods of its
// node name, and nothing else.
//
// It never lists a namespace: every object is read and watched by its name, which is
// all that the agent's rights allow. Everything it knows is in memory; an agent that
// starts reads anew.
package objects

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// Reader reads single objects on behalf of Pods of this node. What it returns is
// shared: callers must not change it. Errors are those of the API server, so
// apierrors.IsNotFound tells an object that is not there; one that the agent may not
// read yet is apierrors.IsForbidden.
type Reader interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}
