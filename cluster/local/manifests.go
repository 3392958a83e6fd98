package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/config"
	"github.com/keelson-dev/keelson/config/webhook"
)

const fieldOwner = client.FieldOwner("keelson-up")

// installManifests applies everything that Keelson needs in the API server. Doing
// it again brings back what was changed by hand.
func (p *probes) installManifests(ctx context.Context) error {
	c, err := p.apiClient()
	if err != nil {
		return err
	}
	for _, set := range config.Standalone() {
		objects, err := config.Objects(set)
		if err != nil {
			return fmt.Errorf("read manifests %s: %w", set, err)
		}
		if err := apply(ctx, c, objects...); err != nil {
			return err
		}
		if set != config.CRDs {
			continue
		}
		if err := waitEstablished(ctx, c, objects); err != nil {
			return err
		}
	}
	forNodes, err := joinConfigMap(p.joining)
	if err != nil {
		return err
	}
	if err := apply(ctx, c, forNodes); err != nil {
		return err
	}
	// The manager is no Pod here, so no Service leads to it.
	registrations, err := webhook.ForURL(p.webhookURL)
	if err != nil {
		return err
	}
	return apply(ctx, c, registrations...)
}

func apply(ctx context.Context, c client.Client, objects ...*unstructured.Unstructured) error {
	for _, object := range objects {
		if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

// waitEstablished waits until the API server serves the new kinds.
func waitEstablished(ctx context.Context, c client.Client, crds []*unstructured.Unstructured) error {
	const period, limit = 50 * time.Millisecond, 30 * time.Second
	for _, object := range crds {
		var crd apiextensionsv1.CustomResourceDefinition
		err := wait.PollUntilContextTimeout(ctx, period, limit, true, func(ctx context.Context) (bool, error) {
			if err := c.Get(ctx, client.ObjectKeyFromObject(object), &crd); err != nil {
				return false, err
			}
			return established(&crd), nil
		})
		if err != nil {
			return fmt.Errorf("wait until %s is served (%s): %w", object.GetName(), notEstablishedBecause(&crd), err)
		}
	}
	return nil
}

func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established {
			return c.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

func notEstablishedBecause(crd *apiextensionsv1.CustomResourceDefinition) string {
	var reasons []error
	for _, c := range crd.Status.Conditions {
		if c.Status != apiextensionsv1.ConditionTrue {
			reasons = append(reasons, fmt.Errorf("%s: %s", c.Reason, c.Message))
		}
	}
	if err := errors.Join(reasons...); err != nil {
		return err.Error()
	}
	return "no condition yet"
}

// apiClient returns the one client, made once the API server answers: it learns
// there which kinds exist.
func (p *probes) apiClient() (client.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		return p.client, nil
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(apiextensionsv1.AddToScheme(scheme), keelsonv1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register kinds: %w", err)
	}
	c, err := client.New(p.admin, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	p.client = c
	return c, nil
}
