package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// staticPod is a manifest of a server that counts its starts in a folder of the machine.
func staticPod(namespace, name, folder, word string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %[2]s
  namespace: %[1]s
  labels: {app: %[2]s}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: %[5]s
    imagePullPolicy: IfNotPresent
    command: [/bin/sh]
    args: [-c, "echo %[4]s >> /data/starts; cat /data/starts; exec sleep 7654321"]
    ports: [{name: db, containerPort: 3306}]
    env: [{name: WORD, value: %[4]s}]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes:
  - name: data
    hostPath: {path: %[3]s, type: DirectoryOrCreate}
`, namespace, name, folder, word, cluster.Image(busyboxImage))
}

// manifest puts a file into the node's folder, whole at once as `mv` does, until the test
// ends.
func (s *space) manifest(name, content string) string {
	s.t.Helper()
	path := filepath.Join(cluster.DataDir, "static-pods", name)
	temporary := filepath.Join(s.t.TempDir(), "manifest")
	must(s.t, os.WriteFile(temporary, []byte(content), 0o600))
	must(s.t, os.Rename(temporary, path))
	s.t.Cleanup(func() {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			s.t.Error(err)
		}
	})
	return path
}

// starts is what the server has written.
func starts(t *testing.T, folder string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "starts"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

func TestStaticPods(t *testing.T) {
	s := newSpace(t)
	node := s.run("get", "kno", "-o", "jsonpath={.items[0].metadata.name}")
	name, folder := "static-mysql-"+node, filepath.Join(t.TempDir(), "mysqldata")
	s.manifest("broken.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: broken}\nspec: {containers: [{name: a, imgae: b}]}\n")
	path := s.manifest("mysql.yaml", staticPod(s.Name, "static-mysql", folder, "one"))
	first := s.phase(name, corev1.PodRunning)
	id := func(p *keelsonv1.Pod) string { return p.Status.ContainerStatuses[0].ContainerID }
	if out := s.run("get", "kpo", "-l", "app=static-mysql", "-o", "wide"); !strings.Contains(out, name) || !strings.Contains(out, node) {
		t.Errorf("kubectl get prints\n%s", out)
	}
	s.eventually(soon, "an event names the broken file and its field", func() error {
		out, err := s.try("get", "events", "-n", "default", "--field-selector=reason=FailedValidation")
		if err != nil {
			return err
		}
		return wantIn(out, "broken.yaml", `unknown field "spec.containers[0].imgae"`)
	})

	p := &space{t: t, Name: s.Name, plain: true}
	if out := p.run("logs", name); out != "one\n" && out != "one" {
		t.Errorf("its log is %q", out)
	}
	if out := p.run("exec", name, "--", "sh", "-c", "echo $WORD"); strings.TrimSpace(out) != "one" {
		t.Errorf("its variable is %q", out)
	}
	p.want([]string{"describe", "pod", name}, "Controlled By:  Node/"+node, "Container started", "kubernetes.io/config.source: file")

	t.Log("Deleting it in the API changes nothing")
	p.run("delete", "pod", name, "--wait=false")
	again := s.podWhen(name, "made again", func(pod *keelsonv1.Pod) error {
		if pod.UID == first.UID || pod.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("%s is %s", pod.UID, pod.Status.Phase)
		}
		return nil
	})
	if id(again) != id(first) {
		t.Errorf("container %s became %s", id(first), id(again))
	}

	t.Log("The agent's death changes nothing")
	kill(t, "keelson-node", syscall.SIGKILL)
	s.apply(shellPod("marker", "Never", "exit 0"))
	s.phase("marker", corev1.PodSucceeded)
	if now := s.phase(name, corev1.PodRunning); id(now) != id(first) || now.UID != again.UID || starts(t, folder) != "one" {
		t.Errorf("was %s, is %s; it started %s", identity(again), identity(now), starts(t, folder))
	}

	t.Log("A container that ends is started again, with its data")
	for _, pid := range processesOf(t, "sleep", "7654321") {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	s.podWhen(name, "restarted", func(pod *keelsonv1.Pod) error {
		if c := pod.Status.ContainerStatuses[0]; c.RestartCount != 1 || c.State.Running == nil {
			return fmt.Errorf("%d restarts", c.RestartCount)
		}
		return nil
	})
	if got := starts(t, folder); got != "one one" {
		t.Errorf("its data are %q", got)
	}

	t.Log("Another manifest is another Pod")
	s.manifest("mysql.yaml", staticPod(s.Name, "static-mysql", folder, "two"))
	s.podWhen(name, "the new Pod", func(pod *keelsonv1.Pod) error {
		if pod.UID == again.UID || pod.Status.Phase != corev1.PodRunning || pod.Status.ContainerStatuses[0].RestartCount != 0 {
			return fmt.Errorf("%s is %s", pod.UID, pod.Status.Phase)
		}
		return wantIn(starts(t, folder), "one one two")
	})

	t.Log("Its end is that of the Pod")
	must(t, os.Remove(path))
	s.gone("kpo", name)
	if pids := processesOf(t, "sleep", "7654321"); len(pids) != 0 {
		t.Errorf("processes %v are left", pids)
	}
}

// commandOf is how the one process of a program was started.
func commandOf(t *testing.T, program string) (pid int, args []string) {
	t.Helper()
	pids := processesOf(t, program)
	if len(pids) != 1 {
		t.Fatalf("processes %v of %s", pids, program)
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pids[0]))
	must(t, err)
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pids[0]))
	must(t, err)
	return pids[0], append([]string{path}, strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")[1:]...)
}

// hasEnded says that nothing is left of a process that was killed, not a lock, a name or a
// port: its parent, which is stopped, has not taken note of it, but every thread is dead.
func hasEnded(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return err
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			continue // it is gone
		}
		_, after, _ := strings.Cut(string(stat), ") ") // the name may hold anything
		if state := after[:min(1, len(after))]; state != "Z" && state != "X" {
			return fmt.Errorf("%s is in state %s", thread, state)
		}
	}
	return nil
}

// startAgain starts a program until stop is called, or the test ends.
func startAgain(t *testing.T, args []string) (stop func()) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended by itself, which the test notices
		_ = cmd.Wait()
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s that was started again said:\n%s", args[0], said.String())
		}
	})
	return stop
}

// A static Pod on the machine's network needs no API server to start.
func TestStaticPodStartsWhileTheAPIIsAway(t *testing.T) {
	s := newSpace(t)
	node := s.run("get", "kno", "-o", "jsonpath={.items[0].metadata.name}")
	folder := filepath.Join(t.TempDir(), "data")
	s.manifest("earlier.yaml", staticPod(s.Name, "earlier", folder+"-earlier", "one"))
	earlier := s.phase("earlier-"+node, corev1.PodRunning)
	withoutSupervisor(t, func() {
		kill(t, "kube-apiserver", syscall.SIGKILL)
		// An agent that starts now knows nothing but its manifests.
		pid, args := commandOf(t, "keelson-node")
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		eventually(t, soon, "the agent that was killed has ended", func() error { return hasEnded(pid) })
		stop := startAgain(t, args)
		defer stop() // before the supervisor goes on, which would start another
		s.manifest("alone.yaml", strings.Replace(staticPod(s.Name, "alone", folder, "one"), "spec:\n", "spec:\n  hostNetwork: true\n", 1))
		eventually(t, eventual, "it starts", func() error {
			if got := starts(t, folder); got != "one" {
				return fmt.Errorf("it wrote %q", got)
			}
			return nil
		})
	})
	s.phase("alone-"+node, corev1.PodRunning)
	if now := s.phase("earlier-"+node, corev1.PodRunning); identity(now) != identity(earlier) {
		t.Errorf("was %s, is %s", identity(earlier), identity(now))
	}
	if got := starts(t, folder); got != "one" {
		t.Errorf("it started %q", got)
	}
}
