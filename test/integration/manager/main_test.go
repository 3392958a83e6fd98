// Package manager_test runs the manager as a process, under the rights that
// config/rbac gives it, and the rights of node agents, against a real API server.
package manager_test

import (
	"context"
	"os"
	"testing"

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

func TestMain(m *testing.M) {
	os.Exit(env.RunInDir(m, &testEnv, func(dir string) (_ []env.Option, err error) {
		binary, err = env.BuildManager(dir)
		return nil, err
	}))
}

// install applies what a standalone cluster gets; once is enough for all tests.
func install(t *testing.T) {
	t.Helper()
	testEnv.Install(t, config.Namespaces, config.ManagerRBAC, config.HygieneRBAC, config.NodeRBAC, config.Policy)
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
