package join

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// onSecond runs keelson on the second machine and returns what it printed.
func onSecond(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "out") // no pipe: the supervisor would hold it open
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(cluster.Root, "bin/keelson"), args...)
	cmd.Env = append(os.Environ(), "PATH="+systemdBin+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = out, out
	if err := machines.Enter(secondName, cmd.Start); err != nil {
		t.Fatal(err)
	}
	runErr := cmd.Wait()
	text, err := os.ReadFile(out.Name())
	return string(text), errors.Join(runErr, err)
}

func keelson(t *testing.T, args ...string) string {
	t.Helper()
	out, err := cluster.Keelson(args...)
	if err != nil {
		t.Fatalf("keelson %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(cluster.KubectlPath, append([]string{"--kubeconfig", cluster.PlainKubeconfig()}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// joinArguments are the words of the printed command, and what this machine needs.
func joinArguments(t *testing.T) []string {
	t.Helper()
	words := strings.Fields(keelson(t, "token", "create", "--print-join-command", "--ttl", "10m"))
	if len(words) != 7 || words[0] != "keelson" || words[1] != "join" {
		t.Fatalf("the printed command is %q", words)
	}
	return append(words[1:], "--node-name", secondName, "--cgroup-root", "/keelson-"+secondName, "--registry-config-dir", cluster.Registries(),
		"--node-config", filepath.Join(cluster.DataDir, "node.yaml")) // leaves the disk alone, which is this machine's
}

func TestAMachineJoinsRunsAPodAndLeaves(t *testing.T) {
	join := joinArguments(t)
	refusals(t, join)

	begin := time.Now()
	out, err := onSecond(t, join...)
	if err != nil {
		t.Fatalf("join: %v\n%s%s", err, out, logsOfSecond())
	}
	t.Logf("joined and ready after %.1f s", time.Since(begin).Seconds())
	if out, err := onSecond(t, join...); err == nil || !strings.Contains(out, "already") {
		t.Errorf("joined twice: %v\n%s", err, out)
	}
	if got := kubectl(t, "get", "node", secondName, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`); got != "True" {
		t.Errorf("the Node is ready: %q", got)
	}
	checkPod(t)
	checkSystemd(t, join)
	checkFollowing(t)
	checkNewAddress(t)

	if out, err := cluster.Keelson("node", "delete", secondName); err == nil || !strings.Contains(out, "run 'keelson leave' on that machine first") {
		t.Errorf("deleting a Node that is ready: %v\n%s", err, out)
	}
	if out, err := onSecond(t, "leave"); err != nil || !strings.Contains(out, "keelson node delete "+secondName) {
		t.Fatalf("leave: %v\n%s", err, out)
	}
	if got := kubectl(t, "get", "node", secondName, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].reason}`); got != "NodeLeft" {
		t.Errorf("after leaving, the Node is not ready because of %q", got)
	}
	checkNoService(t)
	if out, err := onSecond(t, "leave"); err != nil || !strings.Contains(out, "Nothing to leave") {
		t.Errorf("left twice: %v\n%s", err, out)
	}
	left, err := os.ReadDir(filepath.Join(second.Data, "lib"))
	for _, e := range left {
		t.Errorf("%s is left on the second machine (%v)", e.Name(), err)
	}
	kubectl(t, "delete", "pod", "guest", "--force", "--grace-period=0")
	keelson(t, "node", "delete", secondName)
	if out, err := exec.Command(cluster.KubectlPath, "--kubeconfig", cluster.PlainKubeconfig(), "get", "node", secondName).CombinedOutput(); err == nil {
		t.Errorf("the Node is still there:\n%s", out)
	}
}

// refusals come before the machine joins, which each of them leaves as it was.
func refusals(t *testing.T, join []string) {
	t.Helper()
	with := func(i int, word string) []string {
		changed := append([]string{}, join...)
		changed[i] = word
		return changed
	}
	const token, hash, server = 2, 4, 5
	deleted := keelson(t, "token", "create")
	keelson(t, "token", "delete", deleted)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"another secret":       {with(token, join[token][:7]+strings.Repeat("0", 16)), "does not accept the token"},
		"a deleted token":      {with(token, deleted), "does not accept the token"},
		"another hash":         {with(hash, "sha256:"+strings.Repeat("0", 64)), "the token was not sent"},
		"a port that is shut":  {with(server, options.Gateway().String()+":1"), "can be reached"},
		"a name that is taken": {append(append([]string{}, join...), "--node-name", firstNode(t)), "already, and it is ready"},
	} {
		if out, err := onSecond(t, c.args...); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s\nwant %q", name, err, out, c.want)
		}
	}
}

func firstNode(t *testing.T) string {
	t.Helper()
	return kubectl(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
}

// checkPod runs a Pod on the second machine and asks it from the first.
func checkPod(t *testing.T) {
	t.Helper()
	kubectl(t, "run", "guest", "--image", cluster.Image("test/testserver:v1"), "--overrides", `{"spec":{"nodeName":"`+secondName+`"}}`, "--", "http", ":8080")
	kubectl(t, "wait", "--for=condition=Ready", "pod/guest", "--timeout=120s")
	address := kubectl(t, "get", "pod", "guest", "-o", "jsonpath={.status.podIP}")
	// Through the gateway, which trusts the cluster's authority alone: the node's server has
	// a certificate of it soon after the node is ready.
	eventually(t, "kubectl logs answers", func() error {
		logs := exec.Command(cluster.KubectlPath, "--kubeconfig", cluster.PlainKubeconfig(), "logs", "guest")
		if out, err := logs.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s\n%s", err, out, kubectl(t, "get", "csr"))
		}
		return nil
	})
	out, err := exec.Command("wget", "-q", "-O", "-", "-T", "20", "-t", "5", "http://"+address+":8080/").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "guest ") {
		t.Errorf("the Pod at %s answers: %v\n%s", address, err, out)
	}
}

func logsOfSecond() string {
	var text strings.Builder
	files, _ := filepath.Glob(filepath.Join(second.Data, "*/joined/logs/*.log"))
	for _, file := range files {
		content, _ := os.ReadFile(file)
		text.WriteString("\n==> " + file + "\n" + string(content[max(0, len(content)-4000):]))
	}
	return text.String()
}
