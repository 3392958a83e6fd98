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

const (
	registrationKind = "MutatingWebhookConfiguration"
	// path is where the manager serves admission.
	path = "/admit"
)

// ForService returns the objects for a cluster whose API server can use Services:
// the Service and the registration.
func ForService() ([]*unstructured.Unstructured, error) {
	objects, err := config.Decode(manifest)
	if err != nil {
		return nil, fmt.Errorf("decode the webhook manifest: %w", err)
	}
	return objects, nil
}

// ForURL returns the registration alone, for an API server that reaches the manager
// at base, such as https://localhost:9443.
func ForURL(base string) (*unstructured.Unstructured, error) {
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
	for _, object := range objects {
		if object.GetKind() == registrationKind {
			return object, setURL(object, parsed.JoinPath(path).String())
		}
	}
	return nil, fmt.Errorf("the webhook manifest has no %s", registrationKind)
}

func setURL(registration *unstructured.Unstructured, address string) error {
	webhooks, _, err := unstructured.NestedSlice(registration.Object, "webhooks")
	if err != nil {
		return fmt.Errorf("read the webhooks of the registration: %w", err)
	}
	for i := range webhooks {
		webhook, ok := webhooks[i].(map[string]any)
		if !ok {
			return fmt.Errorf("webhook %d of the registration is no object", i)
		}
		webhook["clientConfig"] = map[string]any{"url": address}
	}
	return unstructured.SetNestedSlice(registration.Object, webhooks, "webhooks")
}
