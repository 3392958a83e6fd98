package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests of plain_*_test.go use stock kubectl in the plain Kubernetes view: names
// and kinds without a trace of Keelson's groups, through the gateway.

// plain turns a manifest of ours into the one that a Kubernetes user writes.
func plain(manifest string) string {
	return strings.ReplaceAll(manifest, "core.keelson.dev/v1", "v1")
}

// runningPod applies a shell Pod and waits until it runs.
func (s *space) runningPod(name string, commands ...string) {
	s.t.Helper()
	s.apply(plain(shellPod(name, "Always", commands...)))
	s.run("wait", "--for=condition=Ready", "pod/"+name, "--timeout=60s")
}

// runningController applies a controller and waits for its Pods.
func (s *space) runningController(name string, replicas int) {
	s.t.Helper()
	s.apply(plain(controller(name, replicas)))
	s.run("wait", "--for=jsonpath={.status.readyReplicas}="+fmt.Sprint(replicas), "rc/"+name, "--timeout=60s")
}

// podOf is the name of one Pod with the label app=name.
func (s *space) podOf(name string) string {
	s.t.Helper()
	return s.run("get", "pods", "-l", "app="+name, "-o", "jsonpath={.items[0].metadata.name}")
}

// file writes a file for this test only.
func (s *space) file(name, content string) string {
	s.t.Helper()
	// Not TempDir: kubectl takes a comma in a path, from the test's name, for two paths.
	dir, err := os.MkdirTemp("", "keelson-e2e-")
	must(s.t, err)
	s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// want runs kubectl and looks for each part in what it prints.
func (s *space) want(args []string, parts ...string) string {
	s.t.Helper()
	out := s.run(args...)
	if err := wantIn(out, parts...); err != nil {
		s.t.Errorf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// refused runs kubectl, which must fail and say each part.
func (s *space) refused(args []string, parts ...string) {
	s.t.Helper()
	out, err := s.try(args...)
	if err == nil {
		s.t.Errorf("kubectl %s: succeeded:\n%s", strings.Join(args, " "), out)
		return
	}
	if err := wantIn(out, parts...); err != nil {
		s.t.Errorf("kubectl %s: %v", strings.Join(args, " "), err)
	}
}

func TestPlainColumnsAreUpstreams(t *testing.T) {
	s := newPlainSpace(t)
	s.runningController("web", 1)
	s.run("expose", "rc", "web")
	s.eventually(soon, "endpoints", func() error { return wantIn(s.run("get", "ep", "web"), ":8080") })
	for what, tc := range map[string]struct {
		args []string
		want []string // regular expressions, one for each line
	}{
		"pods": {[]string{"get", "pods"}, []string{
			`^NAME +READY +STATUS +RESTARTS +AGE$`, `^web-[a-z0-9]{5} +1/1 +Running +0 +\w+$`}},
		"po, wide": {[]string{"get", "po", "-o", "wide"}, []string{
			`^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE +NOMINATED NODE +READINESS GATES$`, `^web-\w+ +1/1 +Running +0 +\w+ +10\.244\.\d+\.\d+ +\S+ +<none> +<none>$`}},
		"rc, wide": {[]string{"get", "rc", "-o", "wide"}, []string{
			`^NAME +DESIRED +CURRENT +READY +AGE +CONTAINERS +IMAGES +SELECTOR$`, `^web +1 +1 +1 +\w+ +main +\S+testserver:v1 +app=web$`}},
		"svc": {[]string{"get", "svc"}, []string{
			`^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE$`, `^web +ClusterIP +10\.254\.\d+\.\d+ +<none> +8080/TCP +\w+$`}},
		"ep": {[]string{"get", "ep"}, []string{`(?i)^(Warning.*|NAME +ENDPOINTS +AGE)$`}},
		"no": {[]string{"get", "no", "-o", "wide"}, []string{
			`^NAME +STATUS +ROLES +AGE +VERSION +INTERNAL-IP +EXTERNAL-IP +OS-IMAGE +KERNEL-VERSION +CONTAINER-RUNTIME$`,
			`^\S+ +Ready +<none> +\w+ +\S+ +198\.18\.0\.2 +<none> +.*containerd://`}},
		"two types": {[]string{"get", "rc,svc", "-o", "name"}, []string{`^replicationcontroller/web$`, `^service/web$`}},
		"a template": {[]string{"get", "rc", "web", "-o", "go-template={{.apiVersion}} {{.kind}} {{.spec.replicas}}"}, []string{
			`^v1 ReplicationController 1$`}},
		"a selector": {[]string{"get", "pods", "--selector", "app=web,version=v1", "-o", "jsonpath={.items[*].metadata.ownerReferences[0].apiVersion}"}, []string{`^v1$`}},
		"a field selector": {[]string{"get", "pods", "--field-selector", "status.phase=Running,spec.restartPolicy=Always", "-o", "name"}, []string{
			`^pod/web-\w+$`}},
	} {
		t.Run(what, func(t *testing.T) {
			s := s.of(t)
			lines := strings.Split(strings.TrimSpace(s.run(tc.args...)), "\n")
			for i, want := range tc.want {
				if i >= len(lines) || !regexp.MustCompile(want).MatchString(strings.TrimRight(lines[i], " ")) {
					t.Errorf("line %d does not match %s:\n%s", i+1, want, strings.Join(lines, "\n"))
				}
			}
		})
	}
	for _, kind := range []string{"pods", "rc", "svc", "ep", "nodes"} {
		if out := s.run("get", kind, "-o", "yaml", "--show-managed-fields"); strings.Contains(out, "core.keelson.dev") {
			t.Errorf("%s show the group behind the gateway:\n%s", kind, out)
		}
	}
}

func TestPlainDescriptionsAndDiscovery(t *testing.T) {
	s := newPlainSpace(t)
	s.runningController("web", 1)
	pod := s.podOf("web")
	s.eventually(soon, "the Pod's events", func() error {
		return wantIn(s.run("describe", "pod", pod), "Controlled By:  ReplicationController/web", "Scheduled", "Pulled", "Started", "10.244.")
	})
	s.eventually(soon, "the controller's events", func() error {
		return wantIn(s.run("describe", "rc", "web"), "SuccessfulCreate", "1 Running / 0 Waiting")
	})
	s.want([]string{"describe", "nodes"}, "Non-terminated Pods:", pod, "Allocated resources:")
	s.want([]string{"describe", "svc", "kubernetes", "-n", "default"}, "Endpoints:", "Port:")
	s.want([]string{"events", "--for", "pod/" + pod}, "Started", "Pod/"+pod)
	s.want([]string{"get", "events", "--field-selector", "involvedObject.kind=Pod,involvedObject.name=" + pod}, "pod/"+pod)
	s.want([]string{"explain", "pod.spec.containers.image"}, "KIND:", "Pod", "VERSION:", "v1", "image")
	s.want([]string{"explain", "rc.spec.replicas"}, "ReplicationController", "replicas")
	s.want([]string{"api-resources", "--api-group="}, "pods", "po", "replicationcontrollers", "rc", "services", "svc")
	s.want([]string{"api-resources", "--api-group=metrics.k8s.io"}, "PodMetrics", "NodeMetrics")
	s.want([]string{"api-versions"}, "v1\n", "apps/v1", "metrics.k8s.io/v1beta1")
	s.want([]string{"version"}, "Client Version", "Server Version: v1.")
	s.run("create", "service", "clusterip", "directory", "--tcp=80")
	s.run("label", "service", "directory", "kubernetes.io/cluster-service=true")
	s.want([]string{"cluster-info"}, "Kubernetes control plane", "is running at", "directory", "/api/v1/namespaces/"+s.Name+"/services/directory:80/proxy")
	s.want([]string{"auth", "can-i", "create", "pods"}, "yes")
	s.want([]string{"auth", "whoami"}, "system:masters")
	s.refused([]string{"auth", "can-i", "delete", "pods", "--as", "nobody"}, "no")
	s.refused([]string{"get", "pods", "--as", "nobody"}, `pods is forbidden: User "nobody" cannot list resource "pods" in API group "" in the namespace "`+s.Name+`"`)
	s.refused([]string{"get", "pod", "missing"}, `Error from server (NotFound): pods "missing" not found`)
	s.refused([]string{"get", "pods", "--field-selector", "spec.colour=red"}, "field label not supported: spec.colour")
}

// TestPlainNames: every name that a kind has, long and short.
func TestPlainNames(t *testing.T) {
	s := newPlainSpace(t)
	for _, names := range [][]string{
		{"pods", "pod", "po"}, {"replicationcontrollers", "replicationcontroller", "rc"}, {"daemonsets", "daemonset", "ds"},
		{"services", "service", "svc"}, {"endpoints", "ep"}, {"events", "event", "ev"}, {"nodes", "node", "no"},
		{"namespaces", "namespace", "ns"}, {"secrets", "secret"}, {"serviceaccounts", "serviceaccount", "sa"},
		{"persistentvolumes", "persistentvolume", "pv"}, {"persistentvolumeclaims", "persistentvolumeclaim", "pvc"},
		{"limitranges", "limitrange", "limits"}, {"resourcequotas", "resourcequota", "quota"},
		{"componentstatuses", "componentstatus", "cs"}, {"deployments", "deployment", "deploy"},
		{"horizontalpodautoscalers", "horizontalpodautoscaler", "hpa"}, {"ingresses", "ingress", "ing"}, {"jobs", "job"},
	} {
		for _, name := range names {
			if out, err := s.try("get", name); err != nil {
				t.Errorf("kubectl get %s: %v\n%s", name, err, out)
			}
		}
	}
}

func TestPlainMetrics(t *testing.T) {
	s := newPlainSpace(t)
	s.runningPod("busy", "while :; do :; done")
	s.eventually(eventual, "top pod", func() error {
		out, err := s.try("top", "pod", "--containers")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return matches(out, `(?m)^busy +c0 +[1-9]\d{2,}m +\d+Mi`)
	})
	s.eventually(eventual, "top node", func() error {
		out, err := s.try("top", "node")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return matches(out, `(?m)^\S+ +[1-9]\d*m +\d+% +[1-9]\d*Mi +\d+%`)
	})
}

func matches(text, expression string) error {
	if !regexp.MustCompile(expression).MatchString(text) {
		return fmt.Errorf("%s does not match:\n%s", expression, text)
	}
	return nil
}
