package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestGuestbook runs the very program behind `make demo`.
func TestGuestbook(t *testing.T) {
	demo := exec.CommandContext(t.Context(), "go", "run", "./hack/demo",
		"--kubectl", cluster.KubectlPath, "--kubeconfig", cluster.Kubeconfig(), "--registry", "127.0.0.1:0")
	demo.Dir = cluster.Root
	demo.Env = os.Environ()
	out, err := demo.CombinedOutput()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), eventual)
		defer cancel()
		if out, err := kubectl(ctx, "", "delete", "-f", cluster.Root+"/examples/guestbook/"); err != nil {
			t.Errorf("delete the Guestbook: %v\n%s", err, out)
		}
	})
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	for _, want := range []string{`answered "Updated"`, `answered "Hello from`, "The Guestbook runs"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo did not print %q:\n%s", want, out)
		}
	}
}
