package clients

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	corev1 "k8s.io/api/core/v1"
)

// kubectls are the releases of kubectl that must work: ours, and one at the far end of
// what still is in use.
func kubectls() map[string]string {
	return map[string]string{"kubectl of our release": setup.kubectl, "kubectl 1.32": program("kubectl-1.32")}
}

// user is a person at a command line.
type user struct {
	t                  *testing.T
	kubectl, namespace string
}

func (u *user) run(args ...string) string {
	u.t.Helper()
	return mustRun(u.t, "", u.kubectl, append([]string{"-n", u.namespace}, args...)...)
}

// sees runs a command that has to print each part.
func (u *user) sees(args []string, parts ...string) {
	u.t.Helper()
	if err := contains(u.run(args...), parts...); err != nil {
		u.t.Errorf("kubectl %s: %v", strings.Join(args, " "), err)
	}
}

// refused runs a command that has to fail and to print each part.
func (u *user) refused(args []string, parts ...string) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	out, err := run(ctx, "", u.kubectl, append([]string{"-n", u.namespace}, args...)...)
	if err == nil {
		err = fmt.Errorf("succeeded: %s", out)
	} else {
		err = contains(out, parts...)
	}
	if err != nil {
		u.t.Errorf("kubectl %s: %v", strings.Join(args, " "), err)
	}
}

func (u *user) file(name string, content []byte) string {
	u.t.Helper()
	path := filepath.Join(u.t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		u.t.Fatal(err)
	}
	return path
}

// controller is the manifest that a person writes: without a status, unlike what Go
// makes of the type.
func (u *user) controller(env ...corev1.EnvVar) string {
	u.t.Helper()
	rc := webController("web", 1)
	rc.Spec.Template.Spec.Containers[0].Env = env
	content, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ReplicationController", "metadata": map[string]any{"name": rc.Name}, "spec": rc.Spec,
	})
	if err != nil {
		u.t.Fatal(err)
	}
	return u.file("web.yaml", content)
}

// TestKubectl: a working day, in the words of each release.
func TestKubectl(t *testing.T) {
	for name, kubectl := range kubectls() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := &user{t: t, kubectl: kubectl, namespace: namespace(t)}
			manifest := u.controller(corev1.EnvVar{Name: "FIRST", Value: "x"})
			u.sees([]string{"apply", "-f", manifest}, "replicationcontroller/web created")
			u.sees([]string{"apply", "-f", manifest}, "replicationcontroller/web unchanged")
			u.run("wait", "--for=jsonpath={.status.readyReplicas}=1", "rc/web", "--timeout=60s")
			u.sees([]string{"get", "rc", "web", "-o", "wide"}, "DESIRED", "SELECTOR", "app=web")
			u.sees([]string{"apply", "-f", u.controller(corev1.EnvVar{Name: "A", Value: "b"})}, "replicationcontroller/web configured")
			u.sees([]string{"set", "image", "rc/web", "*=" + setup.testserver}, "")
			u.sees([]string{"patch", "rc", "web", "-p", `{"spec":{"template":{"spec":{"containers":[{"name":"main","workingDir":"/"}]}}}}`}, "patched")
			u.sees([]string{"get", "rc", "web", "-o", "jsonpath={.spec.template.spec.containers[0]}"}, `"name":"A"`, `"workingDir":"/"`, setup.testserver)
			u.sees([]string{"scale", "rc", "web", "--replicas=2"}, "scaled")
			u.run("wait", "--for=jsonpath={.status.readyReplicas}=2", "rc/web", "--timeout=60s")
			u.sees([]string{"expose", "rc", "web", "--port=80", "--target-port=8080"}, "service/web exposed")
			u.sees([]string{"describe", "rc", "web"}, "SuccessfulCreate", "2 Running")

			u.run("run", "shell", "--image="+setup.busybox, "--command", "--", "sh", "-c", "echo begin; sleep 1000")
			u.run("wait", "--for=condition=Ready", "pod/shell", "--timeout=60s")
			u.sees([]string{"logs", "shell"}, "begin")
			u.sees([]string{"exec", "shell", "--", "sh", "-c", "echo out; wget -q -O - http://$WEB_SERVICE_HOST || true"}, "out")
			copied := u.file("copied", []byte("words to copy"))
			u.run("cp", copied, "shell:/tmp/copied")
			u.sees([]string{"exec", "shell", "--", "cat", "/tmp/copied"}, "words to copy")
			u.sees([]string{"label", "pod", "shell", "more=x"}, "labeled")
			u.sees([]string{"annotate", "pods", "--all", "seen=yes"}, "pod/shell annotated")
			u.sees([]string{"get", "po", "-l", "more=x", "-o", "name"}, "pod/shell")
			u.sees([]string{"get", "po", "--field-selector=spec.restartPolicy=Always,metadata.name=shell", "--no-headers"}, "1/1", "Running")
			u.sees([]string{"describe", "pod", "shell"}, "Started", "Image:")
			u.sees([]string{"explain", "pod.spec.nodeName"}, "KIND:", "Pod", "VERSION:", "v1")
			u.sees([]string{"api-resources", "--namespaced=true"}, "replicationcontrollers", "po")
			u.sees([]string{"auth", "can-i", "create", "pods"}, "yes")
			u.sees([]string{"get", "--raw", "/api/v1/namespaces/" + u.namespace + "/pods/shell"}, `"kind":"Pod"`, `"apiVersion":"v1"`)
			u.refused([]string{"get", "pod", "none"}, `pods "none" not found`)
			u.refused([]string{"delete", "rc", "none"}, `replicationcontrollers "none" not found`)
			u.sees([]string{"delete", "pod", "shell", "--grace-period=0", "--force"}, "deleted")
			u.sees([]string{"delete", "rc,svc", "web", "--wait"}, "deleted")
			u.run("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=60s")
		})
	}
}

// TestKustomize: an overlay with names, labels, replicas and a strategic merge patch
// that must keep the second container; then a change of the base's settings.
func TestKustomize(t *testing.T) {
	for name, kubectl := range kubectls() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := &user{t: t, kubectl: kubectl, namespace: namespace(t)}
			overlay := u.kustomization()
			u.sees([]string{"apply", "-k", overlay}, "configmap/my-settings-", "replicationcontroller/my-web created", "service/my-web created")
			u.run("wait", "--for=jsonpath={.status.readyReplicas}=2", "rc/my-web", "--timeout=60s")
			u.sees([]string{"get", "rc", "my-web", "-o", "jsonpath={.spec.template.spec.containers[*].name} {.spec.template.spec.containers[0].env[0].name} {.metadata.labels.team}"},
				"web side", "MORE", "blue")
			u.sees([]string{"get", "rc", "my-web", "-o", "jsonpath={.spec.template.spec.containers[0].env[*].name}"}, "A", "MORE")
			u.sees([]string{"diff", "-k", overlay}, "")
			u.sees([]string{"get", "-k", overlay, "-o", "name"}, "replicationcontroller/my-web", "service/my-web")
			u.run("delete", "-k", overlay)
			u.run("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=60s")
		})
	}
}

// kustomization copies testdata/kustomize and names the images of this cluster.
func (u *user) kustomization() string {
	u.t.Helper()
	dir := u.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/kustomize")); err != nil {
		u.t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay")
	file, err := os.OpenFile(filepath.Join(overlay, "kustomization.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		u.t.Fatal(err)
	}
	defer file.Close()
	_, err = fmt.Fprintf(file, "images:\n- {name: server, newName: %s, newTag: %s}\n- {name: shell, newName: %s, newTag: %s}\n",
		repository(setup.testserver), tag(setup.testserver), repository(setup.busybox), tag(setup.busybox))
	if err != nil {
		u.t.Fatal(err)
	}
	return overlay
}

func repository(image string) string { return image[:strings.LastIndex(image, ":")] }
func tag(image string) string        { return image[strings.LastIndex(image, ":")+1:] }
