package server

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/keelson-dev/keelson/gateway/upstream"
)

// Whoever runs a node could use the gateway's token, and with it be anybody.
func TestAgentsNeverSeeATokenOfTheGateway(t *testing.T) {
	seen := make(chan http.Header, 1)
	agent := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	defer agent.Close()
	config := &rest.Config{Host: agent.URL, BearerToken: "gateway", TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: agent.Certificate().Raw}),
	}}
	api, err := url.Parse(agent.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := upstream.New(api, http.DefaultTransport)
	none, err := newLocator(config, client, NodeAgent{})
	if err != nil || none != nil {
		t.Fatalf("with a token alone: %v, %v; want no way to agents", none, err)
	}
	certificate := newAuthority(t).serving("gateway")
	locator, err := newLocator(config, client, NodeAgent{ClientCertificate: certificate, ClientKey: certificate})
	if err != nil {
		t.Fatal(err)
	}
	found, err := locator.Agent(&corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	found.Port = api.Port()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, found.URL("/pods", nil).String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := found.Transport().RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if header := <-seen; header.Get("Authorization") != "" {
		t.Errorf("the agent saw %q", header)
	}
}
