package e2e

import (
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestSecondUpIsHarmless(t *testing.T) {
	before := processesOf(t, "kube-apiserver")
	out, err := cluster.Keelson("up")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out, "already") {
		t.Errorf("it does not say that the cluster runs already:\n%s", out)
	}
	if now := processesOf(t, "kube-apiserver"); len(now) != 1 || now[0] != before[0] {
		t.Errorf("kube-apiserver was %v, is %v", before, now)
	}
}

// TestUpAfterTheSupervisorWasKilled: the next up takes over what still runs.
func TestUpAfterTheSupervisorWasKilled(t *testing.T) {
	s := newSpace(t)
	s.apply(shellPod("stays", "Always", "sleep 3600"))
	before := identity(s.phase("stays", corev1.PodRunning))
	kill(t, "keelson", syscall.SIGKILL)
	if out, err := cluster.Keelson("up"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, program := range []string{"etcd", "kube-apiserver", "keelson-manager", "keelson-node"} {
		if pids := processesOf(t, program); len(pids) != 1 {
			t.Errorf("%s runs as %v, want one process", program, pids)
		}
	}
	s.apply(shellPod("works", "Never", "exit 0"))
	s.phase("works", corev1.PodSucceeded)
	if now := identity(s.phase("stays", corev1.PodRunning)); now != before {
		t.Errorf("was %s, is %s", before, now)
	}
}
