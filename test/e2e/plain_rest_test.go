package e2e

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"
)

// TestPlainProxy goes through `kubectl proxy` to the API, and through the API to Pods.
func TestPlainProxy(t *testing.T) {
	s := newPlainSpace(t)
	s.runningController("web", 1)
	s.run("expose", "rc", "web", "--port=80", "--target-port=8080")
	pod := s.podOf("web")
	s.eventually(soon, "endpoints", func() error { return wantIn(s.run("get", "ep", "web"), ":8080") })
	lines := follow(t, s.command("proxy", "--port=0", "--api-prefix=/k8s-api", "--reject-paths=^/api/v1/secrets"))
	address := "http://" + lines.expect(`Starting to serve on (127\.0\.0\.1:\d+)`) + "/k8s-api"
	for path, want := range map[string]string{
		"/api/v1/namespaces/" + s.Name + "/pods/" + pod + ":8080/proxy/": `^` + pod,
		"/api/v1/namespaces/" + s.Name + "/services/web:80/proxy/":       `^` + pod,
		"/api/v1/nodes/" + nodeName(t) + "/proxy/healthz":                `^ok`,
		"/api/v1/secrets": `(?i)^.*(forbidden|unauthorized)`,

		// As curl prints it.
		"/version": `(?m)^  "gitVersion": "v1\.`,
		"/api/v1/namespaces/" + s.Name + "/services/web":           `(?m)^    "clusterIP": "10\.254\.`,
		"/api/v1/namespaces/" + s.Name + "/pods":                   `(?m)^  "kind": "PodList",\n  "apiVersion": "v1",|^  "apiVersion": "v1",`,
		"/api/v1/namespaces/" + s.Name + "/replicationcontrollers": `(?m)^        "name": "web",`,
		"/api/v1/nodes": `(?m)^      "status": {`,
	} {
		if body := fetch(t, address+path); !regexp.MustCompile(want).MatchString(body) {
			t.Errorf("%s: %q does not match %s", path, body, want)
		}
	}
	t.Run("a Pod sent as YAML", func(t *testing.T) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/api/v1/namespaces/"+s.Name+"/pods",
			strings.NewReader(plain(shellPod("yaml", "Never", "exit 0"))))
		must(t, err)
		request.Header.Set("Content-Type", "application/yaml")
		code, body := do(t, http.DefaultClient, request)
		var made corev1.Pod
		if err := json.Unmarshal(body, &made); err != nil || code != http.StatusCreated || made.Kind != "Pod" || made.APIVersion != "v1" || made.UID == "" {
			t.Errorf("%d (%v): %s", code, err, body)
		}
	})
}

// TestPlainNeedsCredentials: who says nothing about himself gets nothing.
func TestPlainNeedsCredentials(t *testing.T) {
	config := plainConfig(t)
	must(t, rest.LoadTLSFiles(config))
	roots, err := certutil.NewPoolFromBytes(config.CAData)
	must(t, err)
	client := &http.Client{Timeout: soon, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	for _, path := range []string{"/api/v1/pods", "/api", "/version", "/apis/metrics.k8s.io/v1beta1/nodes", "/openapi/v2"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+path, nil)
		must(t, err)
		if code, body := do(t, client, request); code != http.StatusUnauthorized || !strings.Contains(string(body), `"Unauthorized"`) {
			t.Errorf("%s: %d %s", path, code, body)
		}
		request.Header.Set("Authorization", "Bearer invented")
		if code, body := do(t, client, request); code != http.StatusUnauthorized {
			t.Errorf("%s with an invented token: %d %s", path, code, body)
		}
	}
}

func do(t *testing.T, client *http.Client, request *http.Request) (int, []byte) {
	t.Helper()
	response, err := client.Do(request)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, body
}

// fetch returns what curl prints, whatever the answer's code.
func fetch(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	request.Header.Set("User-Agent", "curl/7.88.1")
	_, body := do(t, &http.Client{Timeout: soon}, request)
	return string(body)
}
