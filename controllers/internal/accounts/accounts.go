// Package accounts finds the ServiceAccount of a Pod that is being created.
//
// It reads and never writes. It keeps nothing: what the cache does not have yet is read
// from the API server.
package accounts

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podadmission"
)

const (
	// The default account of a new Namespace may take a moment; upstream waits as long.
	defaultAttempts = 10
	retryInterval   = 150 * time.Millisecond
)

// Finder finds accounts.
type Finder struct {
	// Cached may lag; Live does not.
	Cached, Live client.Reader
	// Clock is nil for the real one.
	Clock clock.Clock
	// Patient waits for the default account of a Namespace; those who are asked again
	// anyway are not.
	Patient bool
}

// Of returns the account of pod. Its error is upstream's refusal of the Pod where there
// is none, apierrors.IsForbidden, and else a failure to find out.
func (f Finder) Of(ctx context.Context, pod *keelsonv1.Pod) (*corev1.ServiceAccount, error) {
	name := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}
	account := &corev1.ServiceAccount{}
	err := f.Cached.Get(ctx, name, account)
	if apierrors.IsNotFound(err) {
		err = f.live(ctx, name, account)
	}
	switch {
	case err == nil:
		return account, nil
	case apierrors.IsNotFound(err):
		missing := apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccount"}, name.Name)
		return nil, Forbidden(pod, fmt.Errorf("error looking up service account %s: %w", name, missing))
	default:
		return nil, fmt.Errorf("look up service account %s: %w", name, err)
	}
}

func (f Finder) live(ctx context.Context, name types.NamespacedName, into *corev1.ServiceAccount) error {
	attempts := 1
	if f.Patient && name.Name == podadmission.DefaultServiceAccount {
		attempts = defaultAttempts
	}
	c := f.Clock
	if c == nil {
		c = clock.RealClock{}
	}
	for {
		err := f.Live.Get(ctx, name, into)
		if attempts--; !apierrors.IsNotFound(err) || attempts == 0 {
			return err
		}
		timer := c.NewTimer(retryInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C():
		}
	}
}

// Forbidden is the refusal of pod by a plugin of upstream's, in its words.
func Forbidden(pod *keelsonv1.Pod, reason error) error {
	name := pod.Name
	if name == "" {
		name = pod.GenerateName
	}
	return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, name, reason)
}
