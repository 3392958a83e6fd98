// Package admission tests the webhook as the API server and kubectl see it.
package admission

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/keelson-dev/keelson/config"
	"github.com/keelson-dev/keelson/controllers/admission"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv, env.StockAdmission)) }

// startWebhook serves admission for the whole test, registered by URL, and returns
// when the API server gets answers from it.
func startWebhook(t *testing.T) {
	t.Helper()
	testEnv.Install(t, config.Namespaces, config.ManagerRBAC)
	port := env.FreePort(t)
	url := "https://localhost:" + strconv.Itoa(port)
	testEnv.Register(t, url)
	testEnv.AsManager().StartManager(t, func(mgr ctrl.Manager) error {
		return admission.Add(mgr, admission.Options{ServiceCIDR: "10.254.0.0/16", NodePortRange: "30000-32767", URL: url})
	}, func(o *ctrl.Options) {
		o.WebhookServer = webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: port})
	})
	testEnv.EventuallyAdmits(t)
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
