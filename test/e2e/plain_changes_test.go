package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// field is one value of an object.
func (s *space) field(object, jsonpath string) string {
	s.t.Helper()
	return s.run("get", object, "-o", "jsonpath={"+jsonpath+"}")
}

// wantField fails the test when the value is another.
func (s *space) wantField(object, jsonpath, want string) {
	s.t.Helper()
	if got := s.field(object, jsonpath); got != want {
		s.t.Errorf("%s of %s is %q, want %q", jsonpath, object, got, want)
	}
}

func TestPlainChanges(t *testing.T) {
	s := newPlainSpace(t)
	s.runningController("web", 1)

	t.Run("patches of three kinds", func(t *testing.T) {
		s := s.of(t)
		s.run("patch", "rc", "web", "-p", `{"spec":{"template":{"spec":{"containers":[{"name":"main","env":[{"name":"A","value":"1"}]}]}}}}`)
		s.run("patch", "rc", "web", "-p", `{"spec":{"template":{"spec":{"containers":[{"name":"main","env":[{"name":"B","value":"2"}]}]}}}}`)
		s.wantField("rc/web", ".spec.template.spec.containers[0].env[*].name", "B A")
		s.wantField("rc/web", ".spec.template.spec.containers[0].args[0]", "http")
		s.run("patch", "rc", "web", "--type=json", "-p", `[{"op":"replace","path":"/spec/template/metadata/labels/version","value":"v2"}]`)
		s.run("patch", "rc", "web", "--type=merge", "-p", `{"metadata":{"annotations":{"note":"merged"}}}`)
		s.wantField("rc/web", ".metadata.annotations.note", "merged")
		s.wantField("rc/web", ".spec.template.metadata.labels.version", "v2")
		s.refused([]string{"patch", "rc", "web", "--type=json", "-p", `[{"op":"test","path":"/spec/replicas","value":9}]`}, "The request is invalid")
		s.run("patch", "rc", "web", "--subresource=status", "--type=merge", "-p", `{"status":{"observedGeneration":1}}`)
	})
	t.Run("labels and annotations", func(t *testing.T) {
		s := s.of(t)
		s.run("label", "rc", "web", "a=1", "b=2")
		s.refused([]string{"label", "rc", "web", "a=2"}, "already has a value (1), and --overwrite is false")
		s.run("label", "rc", "web", "a=2", "--overwrite")
		s.run("label", "rc", "--all", "b-")
		s.run("label", "rc", "-l", "a=2", "c=3")
		s.wantField("rc/web", ".metadata.labels.c", "3")
		s.wantField("rc/web", ".metadata.labels.a", "2")
		s.wantField("rc/web", ".metadata.labels.b", "")
		s.run("annotate", "rc", "web", "why=because")
		s.wantField("rc/web", ".metadata.annotations.why", "because")
		s.refused([]string{"annotate", "rc", "web", "why=else"}, "--overwrite is false")
		s.run("annotate", "rc", "-l", "a=2", "why=else", "--overwrite")
		s.wantField("rc/web", ".metadata.annotations.why", "else")
		s.run("annotate", "rc", "--all", "why-")
		s.wantField("rc/web", ".metadata.annotations.why", "")
	})
	t.Run("the current count as a condition of scaling", func(t *testing.T) {
		s := s.of(t)
		s.refused([]string{"scale", "rc", "web", "--current-replicas=5", "--replicas=2"}, "Expected replicas to be 5, was 1")
		s.want([]string{"scale", "rc", "web", "--current-replicas=1", "--replicas=2"}, "replicationcontroller/web scaled")
		s.run("wait", "--for=jsonpath={.status.readyReplicas}=2", "rc/web", "--timeout=60s")
		s.run("scale", "rc", "web", "--replicas=1")
	})
	t.Run("set", func(t *testing.T) {
		s := s.of(t)
		s.run("set", "env", "rc/web", "COLOUR=red")
		s.run("set", "image", "rc/web", "main="+cluster.Image(busyboxImage))
		s.wantField("rc/web", ".spec.template.spec.containers[0].image", cluster.Image(busyboxImage))
		s.wantField("rc/web", ".spec.template.spec.containers[0].env[?(@.name=='COLOUR')].value", "red")
	})
	t.Run("edit", func(t *testing.T) {
		s := s.of(t)
		edit := func(script string, flags ...string) {
			editor := s.file("editor", "#!/bin/sh\nsed -i '"+script+"' \"$1\"\n")
			must(t, os.Chmod(editor, 0o700))
			cmd := s.command(append([]string{"edit", "rc", "web"}, flags...)...)
			cmd.Env = append(cmd.Env, "KUBE_EDITOR="+editor)
			if out, err := output(cmd, ""); err != nil {
				t.Fatalf("edit: %v\n%s", err, out)
			}
		}
		edit("s/note: merged/note: edited/")
		s.wantField("rc/web", ".metadata.annotations.note", "edited")
		edit(`s/"note": "edited"/"note": "again"/`, "--output", "json")
		s.wantField("rc/web", ".metadata.annotations.note", "again")
	})
	t.Run("autoscale", func(t *testing.T) {
		s := s.of(t)
		s.want([]string{"autoscale", "rc", "web", "--min=1", "--max=10", "--cpu-percent=50"}, "horizontalpodautoscaler.autoscaling/web autoscaled")
		s.wantField("hpa/web", ".spec.scaleTargetRef.apiVersion", "v1")
		if err := matches(s.run("get", "hpa"), `(?m)^web +ReplicationController/web +.*/50% +1 +10 +`); err != nil {
			t.Error(err)
		}
		s.run("autoscale", "rc", "web", "--max=10", "--name=free")
		s.refused([]string{"autoscale", "rc", "web", "--min=1", "--name=boundless"}, `required flag(s) "max" not set`)
	})
	t.Run("run", func(t *testing.T) {
		s := s.of(t)
		s.run("run", "made", "--image="+cluster.Image(busyboxImage), "--port=80", "--env=A=b", "--command", "--", "sleep", "3600")
		s.wantField("pod/made", ".metadata.labels.run", "made")
		s.wantField("pod/made", ".spec.containers[0].ports[0].containerPort", "80")
		s.wantField("pod/made", ".spec.containers[0].env[0].value", "b")
		s.wantField("pod/made", ".spec.containers[0].command[0]", "sleep")
		s.run("run", "named", "--image="+cluster.Image(busyboxImage), "--labels=tier=x", "--", "sleep", "3600")
		s.wantField("pod/named", ".metadata.labels", `{"tier":"x"}`)
		s.run("delete", "pod", "made", "named", "--now")
	})
	t.Run("expose", func(t *testing.T) {
		s := s.of(t)
		s.run("expose", "rc", "web", "--port=80", "--target-port=8080", "--name=front", "--type=NodePort")
		s.wantField("svc/front", ".spec.selector.app", "web")
		if port := s.field("svc/front", ".spec.ports[0].nodePort"); port < "30000" || port > "32767" {
			t.Errorf("nodePort is %q", port)
		}
		s.run("expose", "service", "front", "--port=443", "--target-port=8443", "--name=front-https")
		s.wantField("svc/front-https", ".spec.ports[0].targetPort", "8443")
	})
}

func TestPlainApply(t *testing.T) {
	s := newPlainSpace(t)
	manifest := func(version string) string {
		return strings.Replace(plain(controller("web", 0)), "version: v1", "version: "+version, 1)
	}
	s.apply(manifest("v1"))
	s.want([]string{"get", "rc", "web", "-o", "yaml"}, `kubectl.kubernetes.io/last-applied-configuration`, `{"apiVersion":"v1","kind":"ReplicationController"`)

	t.Run("shows the difference", func(t *testing.T) {
		s := s.of(t)
		if out, err := s.try("diff", "-f", s.file("same.yaml", manifest("v1"))); err != nil {
			t.Errorf("the same: %v\n%s", err, out)
		}
		s.refused([]string{"diff", "-f", s.file("other.yaml", manifest("v9"))}, "-        version: v1", "+        version: v9")
	})
	t.Run("again", func(t *testing.T) {
		s := s.of(t)
		if out := s.apply(manifest("v1")); !strings.Contains(out, "replicationcontroller/web unchanged") {
			t.Errorf("the same again: %s", out)
		}
		if out := s.apply(manifest("v2")); !strings.Contains(out, "replicationcontroller/web configured") {
			t.Errorf("a change: %s", out)
		}
		s.wantField("rc/web", ".spec.template.metadata.labels.version", "v2")
	})
	t.Run("on the server, with another manager's conflict", func(t *testing.T) {
		s := s.of(t)
		labelled := func(value string) string {
			return s.file("pod.yaml", strings.Replace(plain(shellPod("one", "Always", "sleep 3600")), "{app: one}", "{app: one, tier: "+value+"}", 1))
		}
		s.want([]string{"apply", "--server-side", "--field-manager=first", "-f", labelled("a")}, "pod/one serverside-applied")
		s.refused([]string{"apply", "--server-side", "--field-manager=second", "-f", labelled("b")},
			`conflict with "first": .metadata.labels.tier`, "--force-conflicts")
		s.run("apply", "--server-side", "--field-manager=second", "--force-conflicts", "-f", labelled("b"))
		s.wantField("pod/one", ".metadata.labels.tier", "b")
	})
	t.Run("prunes what is gone", func(t *testing.T) {
		s := s.of(t)
		config := func(name string) string {
			return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, labels: {set: x}}\nspec: {ports: [{port: 80}], selector: {a: b}}\n---\n", name)
		}
		both := s.file("both.yaml", config("keep")+config("lose"))
		s.run("apply", "-f", both, "--prune", "-l", "set=x", "--prune-allowlist=core/v1/Service")
		s.want([]string{"apply", "-f", s.file("one.yaml", config("keep")), "--prune", "-l", "set=x", "--prune-allowlist=core/v1/Service"}, "service/lose pruned")
		s.gone("svc", "lose")
		s.run("get", "svc", "keep")
	})
	t.Run("a dry run changes nothing", func(t *testing.T) {
		s := s.of(t)
		s.run("apply", "--dry-run=server", "-f", s.file("v3.yaml", manifest("v3")))
		s.wantField("rc/web", ".spec.template.metadata.labels.version", "v2")
		s.run("delete", "rc", "web", "--dry-run=server")
		s.run("get", "rc", "web")
	})
	t.Run("replace", func(t *testing.T) {
		s := s.of(t)
		s.run("replace", "-f", s.file("v4.yaml", manifest("v4")))
		s.wantField("rc/web", ".spec.template.metadata.labels.version", "v4")
		uid := s.field("rc/web", ".metadata.uid")
		s.run("replace", "--force", "-f", s.file("v5.yaml", manifest("v5")))
		if s.field("rc/web", ".metadata.uid") == uid {
			t.Error("replace --force did not make a new object")
		}
	})
	t.Run("kustomize", func(t *testing.T) {
		s := s.of(t)
		folder := t.TempDir()
		for name, content := range map[string]string{
			"kustomization.yaml": "resources: [rc.yaml]\nnamePrefix: k-\nlabels: [{pairs: {from: kustomize}}]\npatches:\n- target: {version: v1, kind: ReplicationController}\n  patch: |\n    - {op: replace, path: /spec/replicas, value: 0}\n",
			"rc.yaml":            plain(controller("kust", 3)),
		} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.run("apply", "-k", folder)
		s.wantField("rc/k-kust", ".spec.replicas", "0")
		s.wantField("rc/k-kust", ".metadata.labels.from", "kustomize")
	})
}

func TestPlainDeletion(t *testing.T) {
	s := newPlainSpace(t)
	slow := func(name string) string {
		return strings.Replace(plain(shellPod(name, "Always", "trap '' TERM; while :; do sleep 1; done")),
			"terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 3600", 1)
	}
	for what, flags := range map[string][]string{
		"at once":           {"--now"},
		"by force":          {"--force", "--grace-period=0"},
		"with a short time": {"--grace-period=2"},
	} {
		t.Run(what, func(t *testing.T) {
			s := s.of(t)
			name := strings.ReplaceAll(what, " ", "-")
			s.apply(slow(name))
			s.run("wait", "--for=condition=Ready", "pod/"+name, "--timeout=60s")
			s.run(append([]string{"delete", "pod", name, "--timeout=60s"}, flags...)...)
			s.gone("pods", name)
		})
	}
	t.Run("shows the time that is left", func(t *testing.T) {
		s := s.of(t)
		s.apply(slow("patient"))
		s.run("wait", "--for=condition=Ready", "pod/patient", "--timeout=60s")
		s.run("delete", "pod", "patient", "--wait=false")
		var pod corev1.Pod
		if err := json.Unmarshal([]byte(s.run("get", "pod", "patient", "-o", "json")), &pod); err != nil {
			t.Fatal(err)
		}
		if grace := pod.DeletionGracePeriodSeconds; grace == nil || *grace != 3600 {
			t.Errorf("deletionGracePeriodSeconds is %v", grace)
		}
		if len(pod.Finalizers) != 0 {
			t.Errorf("finalizers are %v", pod.Finalizers)
		}
		s.eventually(soon, "the node shows it", func() error { return wantIn(s.run("get", "pod", "patient"), "Terminating") })
		s.run("delete", "pod", "patient", "--grace-period=1", "--timeout=60s")
	})
	t.Run("of an owner, not of what it owns", func(t *testing.T) {
		s := s.of(t)
		s.runningController("parent", 2)
		s.run("delete", "rc", "parent", "--cascade=orphan")
		s.eventually(soon, "the orphans", func() error {
			if out := s.run("get", "pods", "-l", "app=parent", "-o", "jsonpath={.items[*].metadata.ownerReferences}"); out != "" {
				return fmt.Errorf("owners are left: %s", out)
			}
			return nil
		})
		s.want([]string{"delete", "pods", "-l", "app=parent", "--timeout=60s"}, `pod "parent-`)
	})
	t.Run("of types by selector, and of all", func(t *testing.T) {
		s := s.of(t)
		s.runningController("group", 1)
		s.run("delete", "rc,pods,svc", "-l", "app=group", "--timeout=60s", "--ignore-not-found")
		s.run("delete", "rc,svc", "--all", "--timeout=60s")
		s.want([]string{"get", "rc,svc"}, "No resources found")
	})
}

func TestPlainDrain(t *testing.T) {
	s := newPlainSpace(t)
	node := nodeName(t)
	t.Cleanup(func() { s.cleanup("uncordon", node) })
	s.runningController("web", 2)
	s.run("create", "pdb", "web", "--selector=app=web", "--min-available=2")
	// Nobody computes the status of budgets yet; it is what there would be.
	s.run("patch", "pdb", "web", "--subresource=status", "--type=merge", "-p",
		`{"status":{"observedGeneration":1,"disruptionsAllowed":0,"currentHealthy":2,"desiredHealthy":2,"expectedPods":2}}`)
	s.refused([]string{"drain", node, "--pod-selector=app=web", "--timeout=5s"}, "Cannot evict pod as it would violate the pod's disruption budget")
	s.want([]string{"get", "node", node}, "SchedulingDisabled")
	s.run("delete", "pdb", "web")
	s.want([]string{"drain", node, "--pod-selector=app=web", "--timeout=60s"}, "evicting pod", "drained")
	s.run("uncordon", node)
	s.run("wait", "--for=jsonpath={.status.readyReplicas}=2", "rc/web", "--timeout=60s")

	s.run("taint", "nodes", node, "colour=red:PreferNoSchedule")
	s.wantField("node/"+node, ".spec.taints[?(@.key=='colour')].value", "red")
	s.run("taint", "nodes", node, "colour-")
}

func TestPlainDebug(t *testing.T) {
	s := newPlainSpace(t)
	s.runningPod("sick", "echo secret > /tmp/here; sleep 3600")
	t.Run("with a container in the Pod", func(t *testing.T) {
		term := openTerminal(t, s.of(t).command("debug", "-it", "sick", "--image="+cluster.Image(busyboxImage), "--target=c0", "--", "sh"))
		term.until("\n", "# ")
		term.send("ps; hostname\n")
		term.expect("sleep 3600")
		term.expect("sick")
		term.send("exit\n")
		if code := term.exitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		s.of(t).want([]string{"get", "pod", "sick", "-o", "jsonpath={.status.ephemeralContainerStatuses[0].state}"}, "terminated")
	})
	t.Run("in a copy", func(t *testing.T) {
		s := s.of(t)
		s.run("debug", "sick", "--copy-to=copy", "--container=c0", "--", "sh", "-c", "sleep 1000")
		s.run("wait", "--for=condition=Ready", "pod/copy", "--timeout=60s")
		s.want([]string{"exec", "copy", "--", "ps"}, "sleep 1000")
	})
}
