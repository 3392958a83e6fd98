package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// rollout is how long an update of a few Pods may take here.
const rollout = 60 * time.Second

// setManifest is a DaemonSet, or a StatefulSet where spec says so, of Pods that answer
// when asked to end. Its version is in the environment, so that every one has a template
// of its own.
func setManifest(kind, name, version, spec string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: %s
metadata: {name: %s}
spec:
  %s
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: %[4]s
        env: [{name: VERSION, value: %[5]s}]
        command: [sh, -c, "trap 'exit 0' TERM; while true; do sleep 1 & wait; done"]
`, kind, name, spec, cluster.Image(busyboxImage), version)
}

func (s *space) rolledOut(object string) {
	s.t.Helper()
	s.want([]string{"rollout", "status", object, "--timeout=" + rollout.String()}, "")
}

// versions are the versions of the running Pods of one set, as a list.
func (s *space) versions(name string) string {
	s.t.Helper()
	return s.run("get", "pods", "-l", "app="+name, "-o", "jsonpath={.items[*].spec.containers[0].env[0].value}")
}

func TestPlainDaemonSet(t *testing.T) {
	s := newPlainSpace(t)
	s.apply(setManifest("DaemonSet", "agent", "one", "updateStrategy: {type: RollingUpdate}"))
	s.rolledOut("ds/agent")
	s.eventually(soon, "the columns", func() error {
		return wantIn(strings.Join(strings.Fields(s.run("get", "ds", "agent", "-o", "wide")), " "),
			"NAME DESIRED CURRENT READY UP-TO-DATE AVAILABLE NODE SELECTOR AGE CONTAINERS IMAGES SELECTOR agent 1 1 1 1 1 <none>", "main", "app=agent")
	})
	s.eventually(soon, "the description", func() error {
		return wantIn(s.run("describe", "ds", "agent"), "Desired Number of Nodes Scheduled: 1", "Number of Nodes Misscheduled: 0",
			"1 Running / 0 Waiting", "SuccessfulCreate", "Created pod: agent-")
	})
	s.want([]string{"describe", "pod", "-l", "app=agent"}, "Controlled By:  DaemonSet/agent",
		"node.kubernetes.io/unschedulable:NoSchedule op=Exists", "node.kubernetes.io/unreachable:NoExecute op=Exists")

	// There and back again.
	s.apply(setManifest("DaemonSet", "agent", "two", "updateStrategy: {type: RollingUpdate}"))
	s.rolledOut("ds/agent")
	if got := s.versions("agent"); got != "two" {
		t.Errorf("versions %q after the update", got)
	}
	s.want([]string{"rollout", "history", "ds/agent"}, "1 ", "2 ")
	s.want([]string{"rollout", "history", "ds/agent", "--revision=1"}, "one")
	s.run("rollout", "undo", "ds/agent")
	s.rolledOut("ds/agent")
	if got := s.versions("agent"); got != "one" {
		t.Errorf("versions %q after undo", got)
	}
	s.want([]string{"rollout", "history", "ds/agent"}, "2 ", "3 ")
	s.want([]string{"rollout", "undo", "ds/agent", "--to-revision=3"}, "skipped rollback")
	s.want([]string{"get", "controllerrevisions", "-l", "app=agent"}, "agent-")
	// Deleted without its Pods it leaves them, and one of the same name takes them back.
	pod := s.podOf("agent")
	s.run("delete", "ds", "agent", "--cascade=orphan")
	if got := s.run("get", "pods", "-l", "app=agent", "-o", "jsonpath={.items[*].metadata.ownerReferences}"); got != "" {
		t.Errorf("owners %s of the Pod that was left", got)
	}
	s.apply(setManifest("DaemonSet", "agent", "one", "updateStrategy: {type: RollingUpdate}"))
	s.rolledOut("ds/agent")
	if again := s.podOf("agent"); again != pod {
		t.Errorf("Pod %s was replaced by %s, want it adopted", pod, again)
	}

	s.run("rollout", "restart", "ds/agent")
	s.rolledOut("ds/agent")
	if again := s.podOf("agent"); again == pod {
		t.Errorf("Pod %s is still there after a restart", pod)
	}

	// A surge has both for a moment, never none.
	s.apply(setManifest("DaemonSet", "agent", "three", "updateStrategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}"))
	s.rolledOut("ds/agent")
	s.eventually(rollout, "the old Pod's end", func() error {
		if got := s.versions("agent"); got != "three" {
			return fmt.Errorf("versions %q", got)
		}
		return nil
	})

	// On a node that does not fit any more.
	s.run("patch", "ds", "agent", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"nobody":"has-it"}}}}}`)
	s.eventually(rollout, "the Pod's end", func() error {
		if got := s.versions("agent"); got != "" {
			return fmt.Errorf("versions %q", got)
		}
		return nil
	})
	s.refused([]string{"patch", "ds", "agent", "-p", `{"spec":{"selector":{"matchLabels":{"app":"other"}}}}`}, "spec.selector", "field is immutable")
	s.refused([]string{"patch", "ds", "agent", "-p", `{"spec":{"template":{"spec":{"restartPolicy":"OnFailure"}}}}`},
		`spec.template.spec.restartPolicy: Unsupported value: "OnFailure": supported values: "Always"`)

	s.run("patch", "ds", "agent", "--type=json", "-p", `[{"op":"remove","path":"/spec/template/spec/nodeSelector"}]`)
	s.rolledOut("ds/agent")
	s.run("delete", "ds", "agent")
	s.eventually(rollout, "the end of its Pods", func() error {
		if got := s.versions("agent"); got != "" {
			return fmt.Errorf("versions %q", got)
		}
		return nil
	})
}
