package e2e

import (
	"fmt"
	"strings"
	"testing"
)

func TestPlainStatefulSet(t *testing.T) {
	s := newPlainSpace(t)
	spec := func(more string) string { return "serviceName: web\n  " + more }
	s.apply("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}\n")
	s.apply(setManifest("StatefulSet", "web", "one", spec("replicas: 2")))
	s.rolledOut("sts/web")
	s.want([]string{"get", "pods", "-l", "app=web", "-o", "name"}, "pod/web-0\npod/web-1")
	s.want([]string{"exec", "web-1", "--", "hostname"}, "web-1")
	s.eventually(soon, "the columns", func() error {
		return wantIn(strings.Join(strings.Fields(s.run("get", "sts", "-o", "wide")), " "), "NAME READY AGE CONTAINERS IMAGES web 2/2", "main")
	})
	s.eventually(soon, "the description", func() error {
		return wantIn(s.run("describe", "sts", "web"), "2 desired | 2 total", "2 Running / 0 Waiting",
			"SuccessfulCreate", "Create Pod web-1 in StatefulSet web successful")
	})

	// A partition lets the higher numbers go first.
	s.apply(setManifest("StatefulSet", "web", "two", spec("replicas: 2\n  updateStrategy: {rollingUpdate: {partition: 1}}")))
	s.want([]string{"rollout", "status", "sts/web", "--timeout=" + rollout.String()}, "partitioned roll out complete: 1 new pods have been updated")
	if got := s.versions("web"); got != "one two" {
		t.Errorf("versions %q with a partition of 1", got)
	}
	s.apply(setManifest("StatefulSet", "web", "two", spec("replicas: 2\n  updateStrategy: {rollingUpdate: {partition: 0}}")))
	s.rolledOut("sts/web")
	if got := s.versions("web"); got != "two two" {
		t.Errorf("versions %q after the update", got)
	}
	s.want([]string{"rollout", "history", "sts/web"}, "1 ", "2 ")
	s.run("rollout", "undo", "sts/web", "--to-revision=1")
	s.rolledOut("sts/web")
	if got := s.versions("web"); got != "one one" {
		t.Errorf("versions %q after undo", got)
	}
	uid := s.field("pod/web-0", ".metadata.uid")
	s.run("rollout", "restart", "sts/web")
	s.rolledOut("sts/web")
	if s.field("pod/web-0", ".metadata.uid") == uid {
		t.Error("web-0 is the same after a restart")
	}

	s.run("scale", "sts/web", "--replicas=3")
	s.rolledOut("sts/web")
	s.run("scale", "sts/web", "--replicas=1")
	s.eventually(rollout, "one Pod", func() error {
		if got := s.run("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"); got != "web-0" {
			return fmt.Errorf("Pods %q", got)
		}
		return nil
	})
	s.refused([]string{"patch", "sts", "web", "-p", `{"spec":{"serviceName":"other","podManagementPolicy":"Parallel"}}`},
		"spec.serviceName", "spec.podManagementPolicy", "field is immutable")
}
