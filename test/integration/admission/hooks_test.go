package admission

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/env"
)

// testHooks configures policies and webhooks under plain names.
func testHooks(t *testing.T) {
	for name, part := range map[string]func(*testing.T, kubectl){
		"a validating policy judges a Deployment":                validatingPolicy,
		"a mutating policy changes a Deployment":                 mutatingPolicy,
		"a policy reads its parameters":                          policyWithParameters,
		"a webhook changes a Pod before it gets its defaults":    mutatingWebhook,
		"a webhook judges Pods, whoever writes, and deletions":   validatingWebhook,
		"a webhook that nobody answers for refuses or lets pass": deadWebhook,
		"a rule on every group is left to the API server":        rulesOnEveryGroup,
	} {
		t.Run(name, func(t *testing.T) { part(t, newKubectl(t)) })
	}
	t.Run("nothing is registered when nothing is configured any more", func(t *testing.T) { nothingConfigured(t, newKubectl(t)) })
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

func mutatingPolicy(t *testing.T, k kubectl) {
	k.configure(t, policyFor("Mutating", "owned", k.namespace, `
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: "Object{metadata: Object.metadata{labels: {'owner': request.userInfo.username, 'strategy': string(object.spec.strategy.type)}}}"}
  - patchType: JSONPatch
    jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/spec/template/spec/containers/-', value: Object.spec.template.spec.containers{name: 'sidecar', image: 'side:1'}}]"}
`))
	env.Eventually(t, func() string {
		return cmp.Diff("admin RollingUpdate", k.must(t, deployment("a", ""), "create", "--dry-run=server", "-f", "-", "-o", "jsonpath={.metadata.labels.owner} {.metadata.labels.strategy}"))
	})
	k.create(t, deployment("a", ""))
	expect(t, "containers with what they get by default", "c sidecar IfNotPresent", k.show(t, "kdeploy/a", "{.spec.template.spec.containers[*].name} {.spec.template.spec.containers[1].imagePullPolicy}"))
}

func policyWithParameters(t *testing.T, k kubectl) {
	k.create(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: limits}\ndata: {replicas: \"3\"}\n")
	k.configure(t, policyFor("Validating", "limited", k.namespace, `
  failurePolicy: Fail
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: ["*"]}]}
  validations: [{expression: "request.resource.resource != 'deployments' || object.spec.replicas <= int(params.data.replicas)", messageExpression: "'at most ' + params.data.replicas"}]
`)+"  validationActions: [Deny]\n  paramRef: {name: limits, namespace: "+k.namespace+", parameterNotFoundAction: Deny}\n")
	k.eventuallyRefused(t, deployment("four", "  replicas: 4\n"), "denied request: at most 3")
	k.create(t, deployment("three", "  replicas: 3\n"))
	_, stderr, code := k.run(t, "", "patch", "kdeploy/three", "--type=merge", "-p", `{"spec": {"replicas": 4}}`)
	if want := "denied request: at most 3"; code == 0 || !strings.Contains(stderr, want) {
		t.Errorf("an update: exit %d: %s, want %q", code, stderr, want)
	}
}

// hookServer answers admission reviews of v1.
type hookServer struct {
	*httptest.Server

	mu   sync.Mutex
	seen []*admissionv1.AdmissionRequest
}

func startHookServer(t *testing.T, answer func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) *hookServer {
	t.Helper()
	s := &hookServer{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		review := &admissionv1.AdmissionReview{}
		if err := json.NewDecoder(r.Body).Decode(review); err != nil {
			t.Errorf("a webhook got no review: %v", err)
			return
		}
		s.mu.Lock()
		s.seen = append(s.seen, review.Request)
		s.mu.Unlock()
		review.Response = answer(review.Request)
		review.Response.UID = review.Request.UID
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(review); err != nil {
			t.Errorf("answer: %v", err)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *hookServer) requests() []*admissionv1.AdmissionRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// webhookFor registers a server for one namespace.
func webhookFor(kind, name, namespace string, s *hookServer, rules, more string) string {
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	return fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: %sWebhookConfiguration
metadata: {name: %s}
webhooks:
- name: %s.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}
  clientConfig: {url: "%s/hook", caBundle: %s}
  rules: [%s]
%s`, kind, name, name, namespace, s.URL, ca, rules, more)
}

func mutatingWebhook(t *testing.T, k kubectl) {
	server := startHookServer(t, func(request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		patch := `[{"op": "add", "path": "/spec/initContainers", "value": [{"name": "added", "image": "i", "resources": {}}]}]`
		return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(patch), PatchType: new(admissionv1.PatchTypeJSONPatch), Warnings: []string{"an init container was added"}}
	})
	k.configure(t, webhookFor("Mutating", "adding", k.namespace, server, `{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}`, ""))
	object := pod("p", "  containers: [{name: c, image: i}]\n")
	env.Eventually(t, func() string {
		return cmp.Diff("added Always /dev/termination-log", k.must(t, object, "create", "--dry-run=server", "-f", "-",
			"-o", "jsonpath={.spec.initContainers[0].name} {.spec.initContainers[0].imagePullPolicy} {.spec.initContainers[0].terminationMessagePath}"))
	})
	_, stderr, _ := k.run(t, object, "create", "-f", "-")
	expect(t, "the warning", "Warning: an init container was added\n", stderr)
	seen := server.requests()[0]
	expect(t, "what the webhook sees", "/v1, Resource=pods /v1, Kind=Pod "+k.namespace+" admin",
		schema.GroupVersionResource(seen.Resource).String()+" "+schema.GroupVersionKind(seen.Kind).String()+" "+seen.Namespace+" "+seen.UserInfo.Username)
	if object := string(seen.Object.Raw); !strings.Contains(object, `"apiVersion":"v1"`) || !strings.Contains(object, `"restartPolicy":"Always"`) || strings.Contains(object, "keelson") {
		t.Errorf("the webhook sees no plain Pod with its defaults: %s", object)
	}
}

func validatingWebhook(t *testing.T, k kubectl) {
	server := startHookServer(t, func(request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		refused := strings.Contains(string(request.Object.Raw)+string(request.OldObject.Raw), "forbidden-image")
		return &admissionv1.AdmissionResponse{Allowed: !refused, Result: &metav1.Status{Message: "no such image here", Code: http.StatusForbidden}}
	})
	object := pod("kept", "  containers: [{name: c, image: forbidden-image}]\n")
	k.create(t, object)
	k.configure(t, webhookFor("Validating", "judging", k.namespace, server, `{apiGroups: [""], apiVersions: [v1], operations: [CREATE, DELETE], resources: [pods]}, {apiGroups: [""], apiVersions: [v1], operations: [UPDATE], resources: [pods/status]}`, ""))
	other := strings.Replace(object, "name: kept", "name: other", 1)
	const said = `admission webhook "judging.example.com" denied the request: no such image here`
	k.eventuallyRefused(t, other, said)
	for what, args := range map[string][]string{
		"the manager's write": {"--as=keelson:manager", "create", "-f", "-"},
		"a deletion":          {"delete", "kpo/kept", "--wait=false"},
		"a write of status":   {"patch", "kpo/kept", "--subresource=status", "--type=merge", "-p", `{"status": {"message": "x"}}`},
	} {
		if stdout, stderr, code := k.run(t, other, args...); code == 0 || !strings.Contains(stderr, said) {
			t.Errorf("%s: exit %d: %s%s", what, code, stdout, stderr)
		}
	}
	k.must(t, "", "patch", "kpo/kept", "--type=merge", "-p", `{"metadata": {"labels": {"updates": "are-not-named"}}}`)
}

func deadWebhook(t *testing.T, k kubectl) {
	server := startHookServer(t, nil)
	server.Close()
	rule := `{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}`
	object := pod("p", "  containers: [{name: c, image: i}]\n")
	ignored := webhookFor("Validating", "ignored", k.namespace, server, rule, "  failurePolicy: Ignore\n")
	k.configure(t, ignored)
	k.create(t, object)
	k.configure(t, webhookFor("Validating", "dead", k.namespace, server, rule, "  failurePolicy: Fail\n"))
	k.eventuallyRefused(t, strings.Replace(object, "name: p", "name: q", 1), `failed calling webhook "dead.example.com": failed to call webhook: Post "`+server.URL+`/hook?timeout=10s": dial tcp `+server.Listener.Addr().String()+`: connect: connection refused`)
}

func rulesOnEveryGroup(t *testing.T, k kubectl) {
	server := startHookServer(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true}
	})
	k.configure(t, webhookFor("Validating", "everything", k.namespace, server,
		`{apiGroups: ["*"], apiVersions: ["*"], operations: [CREATE], resources: ["*"]}, {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}`, ""))
	object := "  containers: [{name: c, image: i}]\n"
	var last string
	env.Eventually(t, func() string {
		last = fmt.Sprintf("p%d", len(server.requests()))
		k.must(t, pod(last, object), "create", "--dry-run=server", "-f", "-")
		if len(server.requests()) == 0 {
			return "not called yet"
		}
		return ""
	})
	before := len(server.requests())
	k.create(t, pod("once", object))
	calls := server.requests()[before:]
	if len(calls) != 1 || calls[0].Resource.Group != keelsonv1.GroupVersion.Group {
		t.Errorf("called %d times for one Pod, first for %v, want once for the stored kind", len(calls), calls[0].Resource)
	}
}

func nothingConfigured(t *testing.T, k kubectl) {
	env.Eventually(t, func() string {
		var entries string
		for _, kind := range []string{"mutatingwebhookconfiguration", "validatingwebhookconfiguration"} {
			entries += k.show(t, kind+"/keelson", "{.webhooks[*].name} ")
		}
		return cmp.Diff("admission.keelson.dev certificates.keelson.dev quota.keelson.dev ", entries)
	})
}
