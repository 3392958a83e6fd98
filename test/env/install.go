package env

import (
	"context"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/config"
	webhookconfig "github.com/keelson-dev/keelson/config/webhook"
)

// Install creates what these parts of config hold; what is there already stays.
func (e *Environment) Install(t testing.TB, parts ...config.Set) {
	t.Helper()
	objects, err := config.Objects(parts...)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if err := e.Client.Create(t.Context(), object); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatalf("failed to create %s %s: %v", object.GetKind(), object.GetName(), err)
		}
	}
}

// Register lets the API server ask for admission at url (https://localhost:PORT) until
// the test ends.
func (e *Environment) Register(t testing.TB, url string) {
	t.Helper()
	registrations, err := webhookconfig.ForURL(url)
	if err != nil {
		t.Fatal(err)
	}
	for _, registration := range registrations {
		e.Create(t, registration)
		t.Cleanup(func() {
			if err := e.Client.Delete(context.WithoutCancel(t.Context()), registration); err != nil {
				t.Error(err)
			}
		})
	}
}

// EventuallyAdmits waits until the API server gets answers from what Register named.
func (e *Environment) EventuallyAdmits(t testing.TB) {
	t.Helper()
	Eventually(t, func() string {
		probe := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}
		if err := e.Client.Create(t.Context(), probe, client.DryRunAll); err != nil {
			return err.Error()
		}
		return ""
	})
}
