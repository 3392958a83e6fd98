package admission

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keelson-dev/keelson/test/env"
)

// testHooks configures policies and webhooks under plain names.
func testHooks(t *testing.T) {
	for name, part := range map[string]func(*testing.T, kubectl){
		"a validating policy judges a Deployment": validatingPolicy,
	} {
		t.Run(name, func(t *testing.T) { part(t, newKubectl(t)) })
	}
}

// policyFor is a policy of kind Validating or Mutating with its binding, for one namespace.
func policyFor(kind, name, namespace, spec string) string {
	return strings.NewReplacer("KIND", kind, "NAME", name, "WHERE", namespace, "SPEC", spec).Replace(`
apiVersion: admissionregistration.k8s.io/v1
kind: KINDAdmissionPolicy
metadata: {name: NAME}
spec:
SPEC
---
apiVersion: admissionregistration.k8s.io/v1
kind: KINDAdmissionPolicyBinding
metadata: {name: NAME}
spec:
  policyName: NAME
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: WHERE}}}
`)
}

func deployment(name, spec string) string {
	return "apiVersion: apps.keelson.dev/v1\nkind: Deployment\nmetadata: {name: " + name + "}\nspec:\n" + spec +
		"  selector: {matchLabels: {a: b}}\n  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}\n"
}

// configure creates configurations until the end of the test.
func (k kubectl) configure(t *testing.T, objects string) {
	t.Helper()
	k.must(t, objects, "create", "-f", "-")
	t.Cleanup(func() { k.deleted(t, objects) })
}

// eventuallyRefused tries to create object until kubectl is refused in these words.
func (k kubectl) eventuallyRefused(t *testing.T, object, want string) {
	t.Helper()
	env.Eventually(t, func() string {
		stdout, stderr, code := k.run(t, object, "create", "--dry-run=server", "-f", "-")
		if code == 0 {
			return "accepted: " + stdout
		}
		if !strings.Contains(stderr, want) {
			return "refused with: " + stderr
		}
		return ""
	})
}

func validatingPolicy(t *testing.T, k kubectl) {
	k.configure(t, policyFor("Validating", "few-replicas", k.namespace, `
  failurePolicy: Fail
  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}]}
  variables: [{name: limit, expression: "5"}]
  validations: [{expression: "object.apiVersion == 'apps/v1' && object.spec.replicas <= variables.limit", message: "too many replicas"}]
`)+"  validationActions: [Deny]\n")
	k.eventuallyRefused(t, deployment("many", "  replicas: 6\n"),
		`ValidatingAdmissionPolicy 'few-replicas' with binding 'few-replicas' denied request: too many replicas`)
	k.create(t, deployment("few", "  replicas: 5\n"))
}

// deleted deletes configurations, also after the context of the test.
func (k kubectl) deleted(t *testing.T, objects string) {
	t.Helper()
	command := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(testEnv.BinDir, "kubectl"), //nolint:gosec // our own kubectl
		"--kubeconfig", k.config, "--namespace", k.namespace, "delete", "--ignore-not-found", "-f", "-")
	command.Stdin = strings.NewReader(objects)
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("kubectl delete: %v: %s", err, out)
	}
}
