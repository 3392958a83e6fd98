package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// local runs `keelson kubectl` with the credentials for the API server itself, where
// Keelson's kinds are custom resources.
func (s *space) local(stdin string, args ...string) (out string, code int) {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(cluster.Root, "bin/keelson"), append([]string{"kubectl", "-n", s.Name}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig(), "KUBECTL="+cluster.KubectlPath)
	cmd.Stdin = strings.NewReader(stdin)
	text, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(text), exit.ExitCode()
	}
	must(s.t, err)
	return string(text), 0
}

func TestKubectlKeelson(t *testing.T) {
	s := newPlainSpace(t)
	const script = `echo ready; while true; do sleep 1; done`
	s.runningPod("shell", script)
	pod := shellPod("shell", "Always", script)
	tests := map[string]struct {
		stdin string
		args  []string
		code  int
		want  string
	}{
		"the usual names":           {args: []string{"get", "pods"}, want: "shell   1/1     Running"},
		"logs":                      {args: []string{"logs", "shell"}, want: "ready"},
		"a command and its input":   {stdin: "typed", args: []string{"exec", "-i", "shell", "--", "sh", "-c", "cat; hostname"}, want: "typedshell"},
		"the exit code of commands": {args: []string{"exec", "shell", "--", "sh", "-c", "exit 7"}, code: 7, want: "exit code 7"},
		"what is not there":         {args: []string{"get", "pod", "nope"}, code: 1, want: `Error from server (NotFound): pods "nope" not found`},
		"a difference":              {stdin: strings.Replace(plain(pod), "{app: shell}", "{app: shell, more: labels}", 1), args: []string{"diff", "-f", "-"}, code: 1, want: "+    more: labels"},
		"the rights of somebody else": {
			args: []string{"get", "pods", "--as=nobody"}, code: 1, want: `User "nobody" cannot list resource "pods"`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out, code := s.of(t).local(tt.stdin, tt.args...)
			if code != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("code %d, want %d; output lacks %q:\n%s", code, tt.code, tt.want, out)
			}
		})
	}
}

// Software in Pods finds the plain Kubernetes API behind the Service kubernetes.
func TestPodsFindThePlainAPI(t *testing.T) {
	s := newPlainSpace(t)
	s.run("create", "serviceaccount", "reader")
	s.run("create", "role", "reader", "--verb=list", "--resource=pods")
	s.run("create", "rolebinding", "reader", "--role=reader", "--serviceaccount="+s.Name+":reader")
	token := strings.TrimSpace(s.run("create", "token", "reader"))
	s.eventually(soon, "the authority that Pods trust", func() error {
		_, err := s.try("get", "configmap", "kube-root-ca.crt")
		return err
	})
	authority := s.run("get", "configmap", "kube-root-ca.crt", "-o", `jsonpath={.data.ca\.crt}`)
	s.apply(plain(strings.ReplaceAll(shellPod("client", "Always", "while true; do sleep 1; done"), busyboxImage, testserverImage)))
	s.run("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
	ask := func(path string) (string, error) {
		return s.try("exec", "client", "--", "env", "TOKEN="+token, "CA="+authority, "/testserver", "api", path)
	}
	out, err := ask("/api/v1/namespaces/" + s.Name + "/pods")
	if err != nil || !strings.Contains(out, `"kind":"PodList"`) || !strings.Contains(out, `"apiVersion":"v1"`) || !strings.Contains(out, `"name":"client"`) {
		t.Errorf("a Pod lists Pods: %v\n%s", err, out)
	}
	if out, err := ask("/api/v1/namespaces/" + s.Name + "/secrets"); err == nil || !strings.Contains(out, "403") {
		t.Errorf("a Pod lists what it may not: %v\n%s", err, out)
	}
}
