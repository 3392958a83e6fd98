package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// deploymentManifest is a Deployment of Pods that serve, with a version in the
// environment.
func deploymentManifest(name, version string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %s}
spec:
  replicas: %d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: %[3]s
        args: [http, ":8080"]
        env: [{name: VERSION, value: %[4]s}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
`, name, replicas, cluster.Image(testserverImage), version)
}

// liveVersions are the versions of the Pods that are not being deleted.
func (s *space) liveVersions(app string) string {
	s.t.Helper()
	return strings.TrimSpace(s.run("get", "pods", "-l", "app="+app, "-o",
		"go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{(index (index .spec.containers 0).env 0).value}} {{end}}{{end}}"))
}

func (s *space) deployed(object string) {
	s.t.Helper()
	s.run("rollout", "status", object, "--timeout="+eventual.String())
}

func TestPlainDeployment(t *testing.T) {
	s := newPlainSpace(t)
	s.want([]string{"apply", "--validate=true", "-f", s.file("web.yaml", deploymentManifest("web", "one", 2))}, "deployment.apps/web created")
	s.deployed("deploy/web")
	s.want([]string{"get", "deploy,rs", "-o", "wide"}, "UP-TO-DATE", "AVAILABLE", "2/2", "app=web", "app=web,pod-template-hash=")

	t.Log("Bad input is refused in upstream's words")
	bad := strings.Replace(deploymentManifest("bad", "one", 1), "      terminationGrace", "      restartPolicy: Never\n      terminationGrace", 1)
	if out, err := s.tryApply(bad); err == nil || wantIn(out, `spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`) != nil {
		t.Errorf("restartPolicy Never: %v\n%s", err, out)
	}
	s.refused([]string{"patch", "deploy", "web", "-p", `{"spec":{"selector":{"matchLabels":{"app":"other"}}}}`}, "spec.selector: Invalid value", "field is immutable")
	s.refused([]string{"scale", "deploy/web", "--replicas=-1"}, "must be greater than or equal to 0")

	t.Log("A new template is rolled out, described, and undone")
	s.run("set", "env", "deploy/web", "VERSION=two")
	s.run("annotate", "deploy/web", "kubernetes.io/change-cause=two is better")
	s.deployed("deploy/web")
	if got := s.liveVersions("web"); got != "two two" {
		t.Errorf("versions %q", got)
	}
	s.want([]string{"rollout", "history", "deploy/web"}, "two is better")
	s.want([]string{"rollout", "history", "deploy/web", "--revision=1"}, "one")
	description := s.run("describe", "deploy/web")
	for _, want := range []string{
		"2 desired | 2 updated | 2 total | 2 available | 0 unavailable", "RollingUpdateStrategy:  25% max unavailable, 25% max surge",
		"NewReplicaSetAvailable", "MinimumReplicasAvailable", "OldReplicaSets:  web-", "NewReplicaSet:   web-", "(2/2 replicas created)",
	} {
		if !strings.Contains(description, want) {
			t.Errorf("describe lacks %q:\n%s", want, description)
		}
	}
	s.eventually(soon, "the events in order", func() error {
		out := s.run("describe", "deploy/web")
		order := regexp.MustCompile(`(?s)Scaled up replica set (web-\w+) from 0 to 2.*Scaled up replica set (web-\w+) from 0 to 1.*Scaled down replica set (web-\w+) from 2 to 1`)
		if m := order.FindStringSubmatch(out); m == nil || m[1] != m[3] || m[1] == m[2] {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	s.want([]string{"rollout", "undo", "deploy/web"}, "rolled back")
	s.deployed("deploy/web")
	if got := s.liveVersions("web"); got != "one one" {
		t.Errorf("versions %q after undo", got)
	}
	s.wantField("deploy/web", `.metadata.annotations.deployment\.kubernetes\.io/revision`, "3")

	t.Log("Paused, changed twice, resumed: one rollout")
	s.run("rollout", "pause", "deploy/web")
	s.run("set", "env", "deploy/web", "VERSION=three")
	s.refused([]string{"rollout", "undo", "deploy/web"}, "paused deployment")
	s.run("set", "env", "deploy/web", "OTHER=x")
	s.run("scale", "deploy/web", "--replicas=3")
	s.run("wait", "--for=jsonpath={.status.availableReplicas}=3", "deploy/web", "--timeout=60s")
	if got := s.liveVersions("web"); got != "one one one" {
		t.Errorf("versions %q while paused", got)
	}
	s.run("rollout", "resume", "deploy/web")
	s.deployed("deploy/web")
	s.wantField("deploy/web", `.metadata.annotations.deployment\.kubernetes\.io/revision`, "4")

	t.Log("A template that does not start is reported, and costs no availability")
	s.run("patch", "deploy", "web", "-p", `{"spec":{"progressDeadlineSeconds":3}}`)
	s.run("set", "image", "deploy/web", "main="+cluster.Image("missing:1"))
	s.refused([]string{"rollout", "status", "deploy/web", "--timeout=60s"}, "exceeded its progress deadline")
	s.wantField("deploy/web", ".status.availableReplicas", "3")
	s.run("rollout", "undo", "deploy/web")
	s.deployed("deploy/web")

	s.run("rollout", "restart", "deploy/web")
	s.deployed("deploy/web")
	s.run("delete", "deploy", "web")
	s.eventually(eventual, "everything is gone", func() error {
		if out := s.run("get", "rs,pods", "-o", "name"); strings.TrimSpace(out) != "" {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// rollingUpdate runs `keelson rolling-update` on the manifest of the view of s.
func (s *space) rollingUpdate(manifest string, args ...string) string {
	s.t.Helper()
	args = append([]string{"rolling-update", "my-web-v1", "-f", "-", "-n", s.Name, "--kubeconfig", s.kubeconfig(), "--update-period=0s"}, args...)
	out, err := output(exec.CommandContext(s.t.Context(), filepath.Join(cluster.Root, "bin/keelson"), args...), manifest)
	if err != nil {
		s.t.Fatalf("keelson %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func webController(version string, replicas string) string {
	return fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: ReplicationController
metadata: {name: my-web-%[1]s, labels: {app: my-web}}
spec:
  %[2]s
  selector: {app: my-web, version: %[1]s}
  template:
    metadata: {labels: {app: my-web, version: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: %[3]s, args: [http, ":8080"]}]
`, version, replicas, cluster.Image(testserverImage))
}

func TestRollingUpdate(t *testing.T) {
	tests := map[string]struct {
		plain bool
		view  func(string) string
	}{
		"the kinds of Keelson": {view: func(m string) string { return m }},
		"the plain view":       {plain: true, view: plain},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSpace(t)
			s.plain = tc.plain
			s.apply(tc.view(webController("v1", "replicas: 2")))
			resource, pods := "krc", "kpo"
			if tc.plain {
				resource, pods = "rc", "pods"
			}
			s.run("wait", "--for=jsonpath={.status.availableReplicas}=2", resource+"/my-web-v1", "--timeout=60s")
			got := s.rollingUpdate(tc.view(webController("v2", "")))
			want := `Created my-web-v2
Scaling up my-web-v2 from 0 to 2, scaling down my-web-v1 from 2 to 0 (keep 2 pods available, don't exceed 3 pods)
Scaling my-web-v2 up to 1
Scaling my-web-v1 down to 1
Scaling my-web-v2 up to 2
Scaling my-web-v1 down to 0
Update succeeded. Deleting my-web-v1
replicationcontroller "my-web-v1" rolling updated to "my-web-v2"
`
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			s.want([]string{"get", resource, "-o", "name"}, "my-web-v2")
			s.eventually(eventual, "only new Pods", func() error {
				out := s.run("get", pods, "-o", "jsonpath={.items[*].metadata.labels.version}")
				if out != "v2 v2" {
					return fmt.Errorf("%s", out)
				}
				return nil
			})
		})
	}
}
