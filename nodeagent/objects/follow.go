package objects

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// source reads one object; a fake one stands in for the API server in tests.
type source interface {
	// list returns the object, nil when there is none, and the version to watch from.
	list(ctx context.Context, k key) (client.Object, string, error)
	watch(ctx context.Context, k key, version string) (watch.Interface, error)
}

// How soon a refused read is tried again: the right is on its way when a Pod is new,
// and may be missing for good when somebody changed the rules. Other errors are those
// of an API server in trouble.
func refusedBackoff() wait.Backoff {
	return wait.Backoff{Duration: 25 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 20, Cap: 15 * time.Second}
}

func troubleBackoff() wait.Backoff {
	return wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 8, Cap: 30 * time.Second}
}

// follow lists and watches one object until ctx ends.
func (c *Cache) follow(ctx context.Context, k key, e *entry) {
	refused, trouble := refusedBackoff(), troubleBackoff()
	for ctx.Err() == nil {
		object, version, err := c.source.list(ctx, k)
		if err == nil {
			refused, trouble = refusedBackoff(), troubleBackoff()
			c.answer(k, e, object)
			err = c.watch(ctx, k, e, version)
		}
		if ctx.Err() != nil {
			return
		}
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			continue // the list is newer
		}
		delay := trouble.Step
		if apierrors.IsForbidden(err) {
			delay = refused.Step
		}
		c.failed(e, err)
		pause := delay()
		klog.FromContext(ctx).V(2).Info("Cannot follow an object, will retry", "kind", k.kind, "object", klog.KRef(k.namespace, k.name), "retryIn", pause, "err", err)
		timer := c.clock.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C():
		}
		timer.Stop()
	}
}

// watch hands on changes until the watch cannot go on; its error says why. A watch that
// the API server ends in good order is begun again where it ended.
func (c *Cache) watch(ctx context.Context, k key, e *entry, version string) error {
	for {
		w, err := c.source.watch(ctx, k, version)
		if err != nil {
			return err
		}
		last, err := c.consume(ctx, k, e, w, version)
		w.Stop()
		if err != nil {
			return err
		}
		if last == version {
			return fmt.Errorf("watching %s %s/%s: the watch ended at once", k.kind, k.namespace, k.name)
		}
		version = last
	}
}

// consume returns the version after the last event.
func (c *Cache) consume(ctx context.Context, k key, e *entry, w watch.Interface, version string) (string, error) {
	for {
		select {
		case <-ctx.Done():
			return version, ctx.Err()
		case event, ok := <-w.ResultChan():
			if !ok {
				return version, nil
			}
			if event.Type == watch.Error {
				return version, apierrors.FromObject(event.Object)
			}
			object, ok := event.Object.(client.Object)
			if !ok {
				return version, fmt.Errorf("watching %s %s/%s: got a %T", k.kind, k.namespace, k.name, event.Object)
			}
			version = object.GetResourceVersion()
			switch event.Type {
			case watch.Added, watch.Modified:
				c.answer(k, e, object)
			case watch.Deleted:
				c.answer(k, e, nil)
			}
		}
	}
}

// apiSource is the API server.
type apiSource struct{ client client.WithWatch }

func (s apiSource) list(ctx context.Context, k key) (client.Object, string, error) {
	list := newList(k.kind)
	if err := s.client.List(ctx, list, options(k)...); err != nil {
		return nil, "", err
	}
	switch l := list.(type) {
	case *corev1.ConfigMapList:
		if len(l.Items) > 0 {
			return &l.Items[0], l.ResourceVersion, nil
		}
	case *corev1.SecretList:
		if len(l.Items) > 0 {
			return &l.Items[0], l.ResourceVersion, nil
		}
	}
	return nil, list.GetResourceVersion(), nil
}

func (s apiSource) watch(ctx context.Context, k key, version string) (watch.Interface, error) {
	return s.client.Watch(ctx, newList(k.kind), append(options(k), &client.ListOptions{
		Raw: &metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true},
	})...)
}

func newList(k kind) client.ObjectList {
	if k == secret {
		return &corev1.SecretList{}
	}
	return &corev1.ConfigMapList{}
}

// options select by name, which makes the rights for single names enough.
func options(k key) []client.ListOption {
	return []client.ListOption{
		client.InNamespace(k.namespace),
		client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector(metav1.ObjectNameField, k.name)},
	}
}
