package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/keelson-dev/keelson/test/imagebuild"
)

// pushIngressController compiles the example's controller and makes an image of it alone.
func pushIngressController(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "controller")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", program, "./examples/ingress/controller")
	build.Dir, build.Env = cluster.Root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile the controller: %v\n%s", err, out)
	}
	image, err := imagebuild.Build(imagebuild.Spec{
		Files: map[string]imagebuild.File{"/controller": {HostPath: program, Mode: 0o755}}, Config: v1.Config{Entrypoint: []string{"/controller"}},
	}, runtime.GOARCH)
	must(t, err)
	const name = "example/ingress:v1"
	_, _, err = cluster.Registry.Push(t.Context(), image, name)
	must(t, err)
	return cluster.Image(name)
}

// TestIngressByAController: HTTP routing by a program in the cluster, which watches the
// API as it would anywhere.
func TestIngressByAController(t *testing.T) {
	manifest, err := os.ReadFile(filepath.Join(cluster.Root, "examples/ingress/controller.yaml"))
	must(t, err)
	s := newPlainSpace(t)
	text := strings.ReplaceAll(string(manifest), "localhost:5557/example/ingress:v1", pushIngressController(t))
	file := s.file("controller.yaml", text)
	own := &space{t: t, Name: "example-ingress", plain: true} // the namespace of the manifest
	own.run("apply", "-f", file)
	t.Cleanup(func() { own.cleanup("delete", "-f", file) })
	s.runningController("my-app", 1)
	s.run("expose", "rc", "my-app", "--port=80", "--target-port=web")

	s.want([]string{"create", "ingress", "my-ingress", "--class=example", "--rule=my.example.com/app*=my-app:80"}, "ingress.networking.k8s.io/my-ingress created")
	s.run("create", "ingress", "another", "--class=another", "--rule=other.example.com/app*=my-app:80")
	own.run("rollout", "status", "deployment/controller", "--timeout=60s")
	front := "http://127.0.0.1:" + own.field("service/controller", ".spec.ports[0].nodePort")
	asks := func(host, path string, code int, part string) {
		t.Helper()
		s.eventually(soon, fmt.Sprintf("%s%s is answered by %d", host, path, code), func() error {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front+path, nil)
			must(t, err)
			request.Host, request.Close = host, true
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err == nil && response.StatusCode != code {
				err = fmt.Errorf("it says %s: %s", response.Status, body)
			}
			if err != nil {
				return err
			}
			return wantIn(string(body), part)
		})
	}
	asks("my.example.com", "/app", http.StatusOK, "my-app-")
	asks("my.example.com", "/", http.StatusNotFound, "no Ingress")
	asks("other.example.com", "/app", http.StatusNotFound, "no Ingress") // is another controller's
	address := own.field("service/controller", ".spec.clusterIP")
	s.eventually(soon, "the columns of kubectl get ingress", func() error {
		return matches(columns(s.run("get", "ingress", "--field-selector=metadata.name=my-ingress")), `(?m)^NAME CLASS HOSTS ADDRESS PORTS AGE\nmy-ingress example my\.example\.com `+address+` 80 \w+$`)
	})
	s.describes("ingress/my-ingress", "Name: my-ingress", "Address: "+address, "Ingress Class: example", "my.example.com", "/app my-app:80 ("+s.backends("app=my-app", "8080")+")")

	s.run("patch", "ingress", "my-ingress", "--type=json", "-p", `[{"op": "replace", "path": "/spec/rules/0/http/paths/0/path", "value": "/new"}]`)
	asks("my.example.com", "/new", http.StatusOK, "my-app-")
	asks("my.example.com", "/app", http.StatusNotFound, "no Ingress")
	s.run("delete", "service", "my-app")
	asks("my.example.com", "/new", http.StatusServiceUnavailable, "there is no Service")
	s.refused([]string{"create", "ingress", "bad", "--class=example", "--rule=My_Host/app=my-app:80"}, `"bad" is invalid: spec.rules[0].host: Invalid value: "My_Host"`)
}
