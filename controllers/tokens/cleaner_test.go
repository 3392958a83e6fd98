package tokens

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// listing is a cache that only lists.
type listing struct {
	cache.Cache
	client.Reader
}

func (l listing) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	return l.Reader.Get(ctx, key, o, options...)
}

func (l listing) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	return l.Reader.List(ctx, list, options...)
}

var cleaningDay = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)

func newCleaner(funcs interceptor.Funcs, objects ...client.Object) *cleaner {
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(keelsonv1.AddToScheme(scheme))
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(funcs).Build()
	return &cleaner{client: c, live: c, secrets: listing{Reader: c}, unusedFor: 30 * 24 * time.Hour, clock: clocktesting.NewFakeClock(cleaningDay)}
}

func trackedSince(day string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: trackingConfigMap},
		Data:       map[string]string{trackingKey: day},
	}
}

func legacyAccount(listed ...string) *corev1.ServiceAccount {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "uid-a"}}
	for _, name := range listed {
		account.Secrets = append(account.Secrets, corev1.ObjectReference{Name: name})
	}
	return account
}

func legacyToken(labels map[string]string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "token", UID: "uid-token", Labels: labels,
			CreationTimestamp: metav1.NewTime(cleaningDay.AddDate(-1, 0, 0)),
			Annotations:       map[string]string{corev1.ServiceAccountNameKey: "a", corev1.ServiceAccountUIDKey: "uid-a"},
		},
		Type: corev1.SecretTypeServiceAccountToken,
	}
}

func TestCleanLegacyTokens(t *testing.T) {
	marked := map[string]string{invalidSinceLabel: "2026-05-01"}
	mounting := builders.MakePod("p").Obj()
	mounting.Namespace = "default"
	mounting.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "token"}}}}
	reborn := legacyAccount("token")
	reborn.UID = "uid-b"
	const gone = "gone"
	for what, tc := range map[string]struct {
		secret  *corev1.Secret
		others  []client.Object
		want    string // the mark, or gone
		wantErr bool
	}{
		"unused: marked":                              {secret: legacyToken(nil), others: []client.Object{trackedSince("2026-01-01"), legacyAccount("token")}, want: "2026-06-15"},
		"marked for long: deleted":                    {secret: legacyToken(marked), others: []client.Object{trackedSince("2026-01-01"), legacyAccount("token")}, want: gone},
		"a Pod mounts it: stays":                      {secret: legacyToken(nil), others: []client.Object{trackedSince("2026-01-01"), legacyAccount("token"), mounting}},
		"marked, and a Pod mounts it: stays":          {secret: legacyToken(marked), others: []client.Object{trackedSince("2026-01-01"), legacyAccount("token"), mounting}, want: "2026-05-01"},
		"made by a person: stays":                     {secret: legacyToken(nil), others: []client.Object{trackedSince("2026-01-01"), legacyAccount()}},
		"of an account of that name before: stays":    {secret: legacyToken(nil), others: []client.Object{trackedSince("2026-01-01"), reborn}},
		"its account is gone: left to the controller": {secret: legacyToken(nil), others: []client.Object{trackedSince("2026-01-01")}},
		"use is not recorded for long enough: stays":  {secret: legacyToken(marked), others: []client.Object{trackedSince("2026-05-16"), legacyAccount("token")}, want: "2026-05-01"},
		"nobody records use: stays, and is said":      {secret: legacyToken(marked), others: []client.Object{legacyAccount("token")}, want: "2026-05-01", wantErr: true},
		"a record that is no day: stays, and is said": {secret: legacyToken(marked), others: []client.Object{trackedSince("spring"), legacyAccount("token")}, want: "2026-05-01", wantErr: true},
	} {
		t.Run(what, func(t *testing.T) {
			c := newCleaner(interceptor.Funcs{}, append(tc.others, tc.secret)...)
			if err := c.clean(t.Context()); (err != nil) != tc.wantErr {
				t.Errorf("error %v", err)
			}
			left := &corev1.Secret{}
			got := gone
			if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(tc.secret), left); err == nil {
				got = left.Labels[invalidSinceLabel]
			} else if !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("the token is %q, want %q", got, tc.want)
			}
		})
	}
}

// A token that somebody uses in the very moment gets a label from the API server: the
// deletion insists on the version that was judged.
func TestATokenUsedMeanwhileIsNotDeleted(t *testing.T) {
	var asked *metav1.Preconditions
	c := newCleaner(interceptor.Funcs{Delete: func(_ context.Context, _ client.WithWatch, o client.Object, options ...client.DeleteOption) error {
		asked = (&client.DeleteOptions{}).ApplyOptions(options).Preconditions
		return apierrors.NewConflict(corev1.Resource("secrets"), o.GetName(), errors.New("used"))
	}}, legacyToken(map[string]string{invalidSinceLabel: "2026-05-01"}), trackedSince("2026-01-01"), legacyAccount("token"))
	if err := c.clean(t.Context()); err != nil {
		t.Errorf("a conflict is not for the log: %v", err)
	}
	if asked == nil || asked.ResourceVersion == nil || *asked.ResourceVersion == "" || asked.UID == nil {
		t.Errorf("preconditions %+v, want the version and the UID that were read", asked)
	}
}
