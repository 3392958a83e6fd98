// Package admission tests the webhook as the API server and kubectl see it.
package admission

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/config"
	webhookconfig "github.com/keelson-dev/keelson/config/webhook"
	"github.com/keelson-dev/keelson/controllers/admission"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv, env.StockAdmission)) }

// startWebhook serves admission for the whole test, registered by URL, and returns
// when the API server gets answers from it.
func startWebhook(t *testing.T) {
	t.Helper()
	objects, err := config.Objects(config.Namespaces, config.ManagerRBAC)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if err := testEnv.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	port := freePort(t)
	url := "https://localhost:" + strconv.Itoa(port)
	registrations, err := webhookconfig.ForURL(url)
	if err != nil {
		t.Fatal(err)
	}
	for _, registration := range registrations {
		if err := testEnv.Client.Create(t.Context(), registration); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := testEnv.Client.Delete(context.WithoutCancel(t.Context()), registration); err != nil {
				t.Error(err)
			}
		})
	}
	// The webhook works with the rights of the real manager, not with a test's.
	manager := testEnv
	manager.Config = rest.CopyConfig(testEnv.Config)
	manager.Config.Impersonate = rest.ImpersonationConfig{UserName: keelsonv1.ManagerUser}
	manager.StartManager(t, func(mgr ctrl.Manager) error {
		return admission.Add(mgr, admission.Options{ServiceCIDR: "10.254.0.0/16", NodePortRange: "30000-32767", URL: url})
	}, func(o *ctrl.Options) {
		o.WebhookServer = webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: port})
	})
	env.Eventually(t, func() string {
		probe := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}
		if err := testEnv.Client.Create(t.Context(), probe, client.DryRunAll); err != nil {
			return err.Error()
		}
		return ""
	})
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// kubectl runs the real kubectl in one namespace.
type kubectl struct {
	config, namespace string
}

func newKubectl(t *testing.T) kubectl {
	t.Helper()
	return kubectl{config: testEnv.Kubeconfig, namespace: testEnv.Namespace(t)}
}

// run returns standard output, and standard error with the exit code.
func (k kubectl) run(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(testEnv.BinDir, "kubectl"),
		append([]string{"--kubeconfig", k.config, "--namespace", k.namespace}, args...)...)
	var out, problems bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewBufferString(stdin), &out, &problems
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run kubectl: %v", err)
	}
	return out.String(), problems.String(), command.ProcessState.ExitCode()
}

// must runs kubectl and fails the test when kubectl does.
func (k kubectl) must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	stdout, stderr, code := k.run(t, stdin, args...)
	if code != 0 {
		t.Fatalf("kubectl %v: exit %d: %s", args, code, stderr)
	}
	return stdout
}

func manifest(kind, name, rest string) string {
	return fmt.Sprintf("apiVersion: core.keelson.dev/v1\nkind: %s\nmetadata:\n  name: %s\n%s", kind, name, rest)
}
