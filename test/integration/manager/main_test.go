// Package manager_test runs the manager as a process, under the rights that
// config/rbac gives it, and the rights of node agents, against a real API server.
package manager_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/keelson-dev/keelson/config"
	"github.com/keelson-dev/keelson/test/env"
)

var (
	testEnv env.Environment
	// binary is the manager, built once.
	binary string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "keelson-manager-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "Cannot make a temporary directory:", err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "Cannot remove the temporary directory:", err)
		}
	}()
	binary = filepath.Join(dir, "keelson-manager")
	build := exec.Command("go", "build", "-o", binary, "github.com/keelson-dev/keelson/cmd/manager")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "Cannot build the manager: %v\n%s", err, out)
		return 1
	}
	return env.Run(m, &testEnv)
}

// install applies what a standalone cluster gets; once is enough for all tests.
func install(t *testing.T) {
	t.Helper()
	objects, err := config.Objects(config.Namespaces, config.ManagerRBAC, config.HygieneRBAC, config.NodeRBAC, config.Policy)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if err := testEnv.Client.Create(t.Context(), object); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatalf("create %s %s: %v", object.GetKind(), object.GetName(), err)
		}
	}
}

// as returns a client with the rights of a user.
func as(t *testing.T, user string, groups ...string) client.Client {
	t.Helper()
	cfg := rest.CopyConfig(testEnv.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	c, err := client.New(cfg, client.Options{Scheme: testEnv.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func create[T client.Object](t *testing.T, o T) T {
	t.Helper()
	if err := testEnv.Client.Create(t.Context(), o); err != nil {
		t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := testEnv.Client.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	return o
}
