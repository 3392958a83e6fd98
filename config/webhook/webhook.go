// Package webhook carries the registration of Keelson's admission webhook, in the
// two forms in which an API server can reach it: through a Service, or at a URL.
//
// It renders and nothing else: it never talks to an API server, and leaves the CA
// to the manager, which writes its own into the registration.
package webhook

import (
	_ "embed"
	"fmt"
	"net/url"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/keelson-dev/keelson/config"
)

//go:embed webhook.yaml
var manifest []byte

// ForService returns the objects for a cluster whose API server can use Services:
// the Service and the registrations.
func ForService() ([]*unstructured.Unstructured, error) {
	objects, err := config.Decode(manifest)
	if err != nil {
		return nil, fmt.Errorf("decode the webhook manifest: %w", err)
	}
	return objects, nil
}

// ForURL returns the registrations alone, for an API server that reaches the manager
// at base, such as https://localhost:9443.
func ForURL(base string) ([]*unstructured.Unstructured, error) {
	parsed, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("webhook URL: %w", err)
	}
	if parsed.Scheme != "https" || parsed.Host == "" || parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" {
		return nil, fmt.Errorf("webhook URL %q is not of the form https://name:port", base)
	}
	objects, err := ForService()
	if err != nil {
		return nil, err
	}
	var registrations []*unstructured.Unstructured
	for _, object := range objects {
		if object.GetKind() == "Service" {
			continue
		}
		if err := setURL(object, parsed); err != nil {
			return nil, err
		}
		registrations = append(registrations, object)
	}
	return registrations, nil
}

// setURL replaces the Service of each webhook, and keeps its path.
func setURL(registration *unstructured.Unstructured, base *url.URL) error {
	webhooks, _, err := unstructured.NestedSlice(registration.Object, "webhooks")
	if err != nil {
		return fmt.Errorf("read the webhooks of the registration: %w", err)
	}
	for i := range webhooks {
		webhook, ok := webhooks[i].(map[string]any)
		if !ok {
			return fmt.Errorf("webhook %d of the registration is no object", i)
		}
		path, found, err := unstructured.NestedString(webhook, "clientConfig", "service", "path")
		if err != nil || !found {
			return fmt.Errorf("webhook %d of the registration names no path (%w)", i, err)
		}
		webhook["clientConfig"] = map[string]any{"url": base.JoinPath(path).String()}
	}
	return unstructured.SetNestedSlice(registration.Object, webhooks, "webhooks")
}
