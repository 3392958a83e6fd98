package tokens

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	cleanPeriod = 24 * time.Hour
	day         = time.DateOnly
	// The API server says when a token was used last, since when it keeps that record, and
	// refuses tokens that are marked.
	lastUsedLabel     = "kubernetes.io/legacy-token-last-used"
	invalidSinceLabel = "kubernetes.io/legacy-token-invalid-since"
	trackingConfigMap = "kube-apiserver-legacy-service-account-token-tracking"
	trackingKey       = "since"
)

// cleaner marks, and later deletes, token Secrets that clusters of old made by themselves
// for every account, when nobody uses them. Those that people made stay.
type cleaner struct {
	client client.Client
	live   client.Reader
	// secrets holds the token Secrets.
	secrets   cache.Cache
	unusedFor time.Duration
	clock     clock.WithTicker
}

// Start implements manager.Runnable.
func (c *cleaner) Start(ctx context.Context) error {
	// Caches beside the manager's own start at the same time as this.
	if !c.secrets.WaitForCacheSync(ctx) {
		return nil
	}
	ticker := c.clock.NewTicker(cleanPeriod)
	defer ticker.Stop()
	for {
		if err := c.clean(ctx); err != nil && ctx.Err() == nil {
			// The next day tries again.
			klog.FromContext(ctx).Error(err, "Failed to clean up unused tokens of service accounts")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

func (c *cleaner) clean(ctx context.Context) error {
	now := c.clock.Now().UTC()
	var secrets corev1.SecretList
	if err := c.secrets.List(ctx, &secrets); err != nil {
		return fmt.Errorf("list token Secrets: %w", err)
	}
	if len(secrets.Items) == 0 {
		return nil
	}
	tracked, err := c.trackedFor(ctx, now)
	if err != nil {
		return err
	}
	if tracked < c.unusedFor {
		return nil // nobody knows what was used before
	}
	var errs []error
	for i := range secrets.Items {
		errs = append(errs, c.cleanOne(ctx, &secrets.Items[i], now))
	}
	return errors.Join(errs...)
}

// trackedFor is how long the API server has kept record of what is used, at least.
func (c *cleaner) trackedFor(ctx context.Context, now time.Time) (time.Duration, error) {
	record := &corev1.ConfigMap{}
	name := types.NamespacedName{Namespace: metav1.NamespaceSystem, Name: trackingConfigMap}
	if err := c.live.Get(ctx, name, record); err != nil {
		return 0, fmt.Errorf("read ConfigMap %s: %w", name, err)
	}
	since, err := time.Parse(day, record.Data[trackingKey])
	if err != nil {
		return 0, fmt.Errorf("read %s of ConfigMap %s: %w", trackingKey, name, err)
	}
	// It may have begun at the end of that day.
	return now.Sub(since.AddDate(0, 0, 1)), nil
}

func (c *cleaner) cleanOne(ctx context.Context, secret *corev1.Secret, now time.Time) error {
	step := planCleaning(secret, now, c.unusedFor)
	if step == keep {
		return nil
	}
	needed, err := c.needed(ctx, secret)
	if err != nil || needed {
		return err
	}
	logger := klog.FromContext(ctx)
	if step == remove {
		logger.Info("Deleting an unused token of a service account", "secret", klog.KObj(secret))
		err := c.client.Delete(ctx, secret, client.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion}, client.DisableReadYourWritesConsistency)
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete Secret %s: %w", klog.KObj(secret), err)
		}
		return nil
	}
	logger.Info("Marking an unused token of a service account as invalid", "secret", klog.KObj(secret))
	marked := secret.DeepCopy()
	metav1.SetMetaDataLabel(&marked.ObjectMeta, invalidSinceLabel, now.Format(day))
	err = c.client.Patch(ctx, marked, client.MergeFromWithOptions(secret, client.MergeFromWithOptimisticLock{}), client.DisableReadYourWritesConsistency)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("mark Secret %s: %w", klog.KObj(secret), err)
	}
	return nil
}

// needed tells whether secret was made by a person, or a Pod mounts it.
func (c *cleaner) needed(ctx context.Context, secret *corev1.Secret) (bool, error) {
	account := &corev1.ServiceAccount{}
	name := types.NamespacedName{Namespace: secret.Namespace, Name: secret.Annotations[corev1.ServiceAccountNameKey]}
	if err := c.client.Get(ctx, name, account); err != nil {
		return true, client.IgnoreNotFound(err)
	}
	// Only what a cluster made by itself is listed by its account.
	listed := slices.ContainsFunc(account.Secrets, func(o corev1.ObjectReference) bool { return o.Name == secret.Name })
	if !listed || !belongs(secret, account) {
		return true, nil
	}
	var pods keelsonv1.PodList
	if err := c.client.List(ctx, &pods, client.InNamespace(secret.Namespace)); err != nil {
		return true, fmt.Errorf("list Pods: %w", err)
	}
	return slices.ContainsFunc(pods.Items, func(p keelsonv1.Pod) bool { return names(&p.Spec, secret.Name) }), nil
}

// cleaning is what is to be done with a token that nobody needs.
type cleaning int

const (
	keep cleaning = iota
	mark
	remove
)

func planCleaning(secret *corev1.Secret, now time.Time, unusedFor time.Duration) cleaning {
	limit := now.Add(-unusedFor)
	if secret.DeletionTimestamp != nil || !secret.CreationTimestamp.Time.Before(limit) {
		return keep
	}
	if used, recorded := secret.Labels[lastUsedLabel]; recorded {
		if _, err := time.Parse(day, used); err != nil || used >= limit.Format(day) {
			return keep
		}
	}
	since := secret.Labels[invalidSinceLabel]
	if _, err := time.Parse(day, since); err != nil {
		return mark
	}
	if since >= limit.Format(day) {
		return keep
	}
	return remove
}

// names tells whether a Pod gets the Secret of this name in any way.
func names(spec *corev1.PodSpec, secret string) bool {
	if slices.ContainsFunc(spec.ImagePullSecrets, func(r corev1.LocalObjectReference) bool { return r.Name == secret }) {
		return true
	}
	for i := range spec.Volumes {
		source := &spec.Volumes[i].VolumeSource
		if source.Secret != nil && source.Secret.SecretName == secret {
			return true
		}
		if source.Projected != nil && slices.ContainsFunc(source.Projected.Sources, func(p corev1.VolumeProjection) bool {
			return p.Secret != nil && p.Secret.Name == secret
		}) {
			return true
		}
	}
	inEnv := func(env []corev1.EnvVar, from []corev1.EnvFromSource) bool {
		return slices.ContainsFunc(env, func(e corev1.EnvVar) bool {
			return e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.ValueFrom.SecretKeyRef.Name == secret
		}) || slices.ContainsFunc(from, func(e corev1.EnvFromSource) bool { return e.SecretRef != nil && e.SecretRef.Name == secret })
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if inEnv(c.Env, c.EnvFrom) {
			return true
		}
	}
	return slices.ContainsFunc(spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return inEnv(c.Env, c.EnvFrom) })
}
