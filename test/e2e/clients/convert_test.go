package clients

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestConvertedManifests is the one test that knows Keelson: what Helm and kustomize
// render, converted, is what kubectl applies without the gateway.
func TestConvertedManifests(t *testing.T) {
	if setup.direct == "" {
		t.Skip("another cluster: it has no Keelson behind the API")
	}
	u := &user{t: t, kubectl: setup.kubectl, namespace: namespace(t)}
	release := &release{t: t, helm: program("helm3"), namespace: u.namespace}
	sources := map[string]struct {
		rendered, controller, replicas string
	}{
		"a chart":     {release.run(append([]string{"template", "chart", "testdata/chart", "--no-hooks"}, release.values()...)...), "chart", "1"},
		"an overlay":  {mustRun(t, "", setup.kubectl, "kustomize", u.kustomization()), "my-web", "2"},
		"a live list": {u.live(), "live", "1"},
	}
	for name, tc := range sources {
		t.Run(name, func(t *testing.T) {
			converted := mustRun(t, tc.rendered, setup.keelson, "convert", "-")
			if err := contains(converted, "apiVersion: core.keelson.dev/v1\n", "kind: ReplicationController"); err != nil {
				t.Fatal(err)
			}
			direct(t, converted, "-n", u.namespace, "apply", "-f", "-")
			controller := "replicationcontrollers.core.keelson.dev/" + tc.controller
			direct(t, "", "-n", u.namespace, "wait", "--for=jsonpath={.status.summary.ready}="+tc.replicas, controller, "--timeout=60s")
			// The same object, in the other view, is the one that was rendered.
			u.sees([]string{"get", "rc", tc.controller, "-o", "jsonpath={.apiVersion}"}, "v1")
			back := mustRun(t, converted, setup.keelson, "convert", "--to=kubernetes", "-")
			if back != tc.rendered {
				t.Errorf("converted back:\n%s\nwant\n%s", back, tc.rendered)
			}
			u.sees([]string{"delete", "rc", tc.controller}, "deleted")
		})
	}
}

// live is the output of kubectl about an object that is there, without what the server
// added; the object is deleted.
func (u *user) live() string {
	u.t.Helper()
	u.run("create", "-f", u.controller())
	out := u.run("get", "rc", "web", "-o", `jsonpath={"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ReplicationController\n  metadata: {name: live}\n  spec: "}{.spec}{"\n"}`)
	u.run("delete", "rc", "web")
	return out
}

// direct is kubectl as the administrator, past the gateway.
func direct(t *testing.T, stdin string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, setup.kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+setup.direct)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
