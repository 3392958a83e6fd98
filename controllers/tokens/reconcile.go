package tokens

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reconciler looks after one token Secret at a time.
type Reconciler struct {
	client client.Client
	// secrets holds the token Secrets.
	secrets client.Reader
	// live asks the API server itself.
	live    client.Reader
	options Options
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	secret := &corev1.Secret{}
	err := r.secrets.Get(ctx, req.NamespacedName, secret)
	if apierrors.IsNotFound(err) {
		return ctrl.Result{}, r.forget(ctx, req.NamespacedName)
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("read Secret %s: %w", req.NamespacedName, err)
	}
	if secret.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	account, err := r.account(ctx, secret)
	if err != nil {
		return ctrl.Result{}, err
	}
	if account == nil {
		return ctrl.Result{}, r.delete(ctx, secret)
	}
	return ctrl.Result{}, r.fill(ctx, secret, account)
}

// account is the one that secret is for, nil if it is gone: not only for the cache, which
// may not know an account that is younger than its Secret.
func (r *Reconciler) account(ctx context.Context, secret *corev1.Secret) (*corev1.ServiceAccount, error) {
	name := types.NamespacedName{Namespace: secret.Namespace, Name: secret.Annotations[corev1.ServiceAccountNameKey]}
	if name.Name == "" {
		// The API server refuses it, unless somebody removed the annotation.
		return nil, nil //nolint:nilnil // no account
	}
	for _, reader := range []client.Reader{r.client, r.live} {
		account := &corev1.ServiceAccount{}
		err := reader.Get(ctx, name, account)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read ServiceAccount %s: %w", name, err)
		}
		if err == nil && belongs(secret, account) {
			return account, nil
		}
	}
	return nil, nil //nolint:nilnil // no account
}

// belongs tells whether secret is for account, and not for an earlier one of its name.
func belongs(secret *corev1.Secret, account *corev1.ServiceAccount) bool {
	uid := secret.Annotations[corev1.ServiceAccountUIDKey]
	return secret.Annotations[corev1.ServiceAccountNameKey] == account.Name && (uid == "" || uid == string(account.UID))
}

func (r *Reconciler) delete(ctx context.Context, secret *corev1.Secret) error {
	klog.FromContext(ctx).Info("Deleting the token of an account that is gone", "serviceAccount", secret.Annotations[corev1.ServiceAccountNameKey])
	// The version too: it may have been given to another account.
	err := r.client.Delete(ctx, secret, client.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion}, client.DisableReadYourWritesConsistency)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete Secret %s: %w", klog.KObj(secret), err)
	}
	return nil
}

// fill gives secret what is missing.
func (r *Reconciler) fill(ctx context.Context, secret *corev1.Secret, account *corev1.ServiceAccount) error {
	if r.options.KeyFile == "" {
		return nil
	}
	if missing(secret, r.options.RootCA) == nil {
		return nil
	}
	// The cache may not know the token that it has: a second one would end the first.
	current := &corev1.Secret{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(secret), current); err != nil {
		return client.IgnoreNotFound(err)
	}
	if current.UID != secret.UID || current.ResourceVersion != secret.ResourceVersion {
		return nil // its event is on the way
	}
	add := missing(current, r.options.RootCA)
	if _, wanted := add[corev1.ServiceAccountTokenKey]; wanted {
		token, err := sign(r.options.KeyFile, legacyClaims(account, current))
		if err != nil {
			return fmt.Errorf("sign a token for ServiceAccount %s: %w", klog.KObj(account), err)
		}
		add[corev1.ServiceAccountTokenKey] = []byte(token)
	}
	changed := current.DeepCopy()
	if changed.Data == nil {
		changed.Data = map[string][]byte{}
	}
	maps.Copy(changed.Data, add)
	changed.Annotations[corev1.ServiceAccountUIDKey] = string(account.UID)
	err := r.client.Patch(ctx, changed, client.MergeFromWithOptions(current, client.MergeFromWithOptimisticLock{}), client.DisableReadYourWritesConsistency)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // its event is on the way
	}
	if err != nil {
		return fmt.Errorf("fill Secret %s: %w", klog.KObj(secret), err)
	}
	return nil
}

// missing is what a token Secret lacks; its token has no value yet.
func missing(secret *corev1.Secret, rootCA []byte) map[string][]byte {
	var add map[string][]byte
	put := func(key string, value []byte) {
		if add == nil {
			add = map[string][]byte{}
		}
		add[key] = value
	}
	if len(rootCA) > 0 && !slices.Equal(secret.Data[corev1.ServiceAccountRootCAKey], rootCA) {
		put(corev1.ServiceAccountRootCAKey, rootCA)
	}
	if len(secret.Data[corev1.ServiceAccountNamespaceKey]) == 0 {
		put(corev1.ServiceAccountNamespaceKey, []byte(secret.Namespace))
	}
	if len(secret.Data[corev1.ServiceAccountTokenKey]) == 0 {
		put(corev1.ServiceAccountTokenKey, nil)
	}
	return add
}

// forget takes a token Secret that is gone off the accounts that list it.
func (r *Reconciler) forget(ctx context.Context, name types.NamespacedName) error {
	var accounts corev1.ServiceAccountList
	if err := r.client.List(ctx, &accounts, client.InNamespace(name.Namespace), client.MatchingFields{secretIndex: name.Name}); err != nil {
		return fmt.Errorf("list ServiceAccounts that have Secret %s: %w", name, err)
	}
	if len(accounts.Items) == 0 {
		return nil
	}
	// It may be there again, with another type.
	err := r.live.Get(ctx, name, &corev1.Secret{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	for i := range accounts.Items {
		account := &accounts.Items[i]
		changed := account.DeepCopy()
		changed.Secrets = slices.DeleteFunc(changed.Secrets, func(o corev1.ObjectReference) bool { return o.Name == name.Name })
		err := r.client.Patch(ctx, changed, client.MergeFromWithOptions(account, client.MergeFromWithOptimisticLock{}))
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("take Secret %s off ServiceAccount %s: %w", name, klog.KObj(account), err)
		}
	}
	return nil
}
