package nodes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// onNode returns the Pod on a node.
func onNode(t *testing.T, pods []corev1.Pod, node string) corev1.Pod {
	t.Helper()
	i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName == node })
	if i < 0 {
		t.Fatalf("no Pod on node %s", node)
	}
	return pods[i]
}

// mover is one Pod that would rather be on NODE, and leaves it soon when it is silent.
// keeper is another one, of which there must not be two at a time.
const mover = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: mover}
spec:
  selector: {matchLabels: {app: mover}}
  template:
    metadata: {labels: {app: mover}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [NODE]}]}
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      containers:
      - {name: web, image: IMAGE, args: [http, ":8098"]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: keeper}
spec:
  serviceName: keeper
  selector: {matchLabels: {app: keeper}}
  template:
    metadata: {labels: {app: keeper}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [NODE]}]}
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      containers:
      - {name: web, image: IMAGE, args: [http, ":8099"]}
`

// keeperRuns are the processes of keeper on this machine, of all nodes.
func keeperRuns(t *testing.T) []int {
	t.Helper()
	pids := processesOf(t, "testserver", ":8099")
	if len(pids) > 1 {
		t.Errorf("keeper runs more than once: processes %v", pids)
	}
	return pids
}

// checkLeftAlone looks at the Pods of a node whose agent has been away for long: mover runs
// elsewhere, and keeper is to end, and has no successor while nobody knows that it has.
func checkLeftAlone(t *testing.T, s *space, node string) (keeper types.UID) {
	t.Helper()
	eventually(t, soon, "the Pod of the StatefulSet is to end", func() error {
		pods, err := s.pods("keeper")
		if err != nil {
			return err
		}
		if len(pods) != 1 || pods[0].Spec.NodeName != node {
			t.Fatalf("there are %d Pods of keeper", len(pods))
		}
		keeper = pods[0].UID
		if pods[0].DeletionTimestamp == nil {
			return errors.New("nobody has deleted it yet")
		}
		return nil
	})
	if len(keeperRuns(t)) != 1 {
		t.Error("keeper does not run on, although nobody told its container to end")
	}
	return keeper
}

// checkReturn starts the agent again, which ends what is not its node's any more.
func checkReturn(t *testing.T, s *space, agent int, keeper types.UID) {
	t.Helper()
	if err := syscall.Kill(agent, syscall.SIGKILL); err != nil { // the supervisor starts another
		t.Fatal(err)
	}
	eventually(t, eventual, "the Pod of the StatefulSet has a successor", func() error {
		keeperRuns(t)
		pods, err := s.pods("keeper")
		if err == nil && (len(pods) != 1 || pods[0].UID == keeper || !isReady(&pods[0])) {
			err = fmt.Errorf("%d Pods", len(pods))
		}
		return err
	})
	eventually(t, soon, "the Pod that moved runs once", func() error {
		if pids := processesOf(t, "testserver", ":8098"); len(pids) != 1 {
			return fmt.Errorf("processes %v", pids)
		}
		return nil
	})
}

// TestNodesAreCutOffAndHealed cuts one node off from the API server and stops its agent,
// for so long that Pods move; at the same time another loses first what it should receive
// from nodes, then what it sends them, too, and then everything. Containers do not notice,
// but for the Pods that moved away meanwhile.
func TestNodesAreCutOffAndHealed(t *testing.T) {
	s := newSpace(t)
	s.apply(servers)
	pods := s.readyPods("web", nodeCount)
	asker, silent, deaf := nodeNames[0], nodeNames[1], nodeNames[2]
	s.apply(strings.ReplaceAll(mover, "NODE", silent))
	for _, app := range []string{"mover", "keeper"} {
		if first := s.readyPods(app, 1)[0]; first.Spec.NodeName != silent {
			t.Fatalf("the Pod of %s that is to move is on node %s", app, first.Spec.NodeName)
		}
	}
	agent := agentOf(t, silent)
	url := func(node string) string { return "http://" + onNode(t, pods, node).Status.PodIP + ":8080/" }
	from := onNode(t, pods, asker).Name
	reaches := func(node string) error {
		_, err := s.askFromPod(from, url(node))
		return err
	}
	for _, node := range nodeNames {
		eventually(t, soon, "Pods reach node "+node, func() error { return reaches(node) })
	}
	t.Cleanup(func() {
		_ = syscall.Kill(agent, syscall.SIGCONT) // gone, if all went well
		for _, node := range []string{silent, deaf} {
			keelson(t, "heal", node)
		}
	})
	keelson(t, "cut", silent, "--from", "control-plane")
	if err := syscall.Kill(agent, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	keelson(t, "cut", deaf, "--from", "nodes", "--only", "received")

	if err := reaches(deaf); err == nil {
		t.Errorf("a Pod on %s answered, which receives nothing from other nodes", deaf)
	}
	if got := nodeReady(t, deaf); got != corev1.ConditionTrue {
		t.Errorf("Ready of Node %s, which reaches the API server, is %s", deaf, got)
	}
	keelson(t, "cut", deaf, "--from", "nodes")
	if err := reaches(deaf); err == nil {
		t.Errorf("a Pod on %s answered, which is cut off from other nodes", deaf)
	}
	keelson(t, "cut", deaf, "--from", "all")
	awaitNode(t, silent, corev1.ConditionUnknown)
	awaitNode(t, deaf, corev1.ConditionUnknown)
	if err := reaches(silent); err != nil {
		t.Errorf("a Pod on %s, which is cut off from the API server only, is not reached by Pods: %v", silent, err)
	}
	if err := reaches(deaf); err == nil {
		t.Errorf("a Pod on %s answered, which is cut off from all", deaf)
	}
	if out := keelson(t, "list"); !strings.Contains(out, "cut off from control-plane") || !strings.Contains(out, "cut off from all") {
		t.Errorf("the list does not tell of the cuts:\n%s", out)
	}

	eventually(t, soon, "the Pod that may move runs on the only node that is left", func() error {
		pods, err := s.pods("mover")
		if err != nil {
			return err
		}
		for i := range pods {
			if pods[i].Spec.NodeName == asker && isReady(&pods[i]) {
				return nil
			}
		}
		return fmt.Errorf("%d Pods, none of them there", len(pods))
	})

	keeper := checkLeftAlone(t, s, silent)
	keelson(t, "heal", silent)
	keelson(t, "heal", deaf)
	checkReturn(t, s, agent, keeper)
	if moved := s.readyPods("mover", 1)[0]; moved.Spec.NodeName != asker {
		t.Errorf("the Pod that moved is on node %s now", moved.Spec.NodeName)
	}
	awaitNode(t, silent, corev1.ConditionTrue)
	awaitNode(t, deaf, corev1.ConditionTrue)
	for _, node := range nodeNames {
		eventually(t, soon, "Pods reach node "+node+" again", func() error { return reaches(node) })
	}
	for _, now := range s.readyPods("web", nodeCount) {
		before := onNode(t, pods, now.Spec.NodeName)
		if now.UID != before.UID || now.Status.ContainerStatuses[0].RestartCount != before.Status.ContainerStatuses[0].RestartCount {
			t.Errorf("Pod %s became %s, or its container was started again", before.Name, now.Name)
		}
	}
}

// TestNodeIsReplacedUnderItsName deletes a node and makes one of the same name with
// another address: everybody finds its Pods there.
func TestNodeIsReplacedUnderItsName(t *testing.T) {
	s := newSpace(t)
	node := nodeNames[2]
	keelson(t, "delete", node)
	if out, err := kubectl(t.Context(), "", "get", "node", node); err == nil {
		t.Errorf("Node %s is still there:\n%s", node, out)
	}
	keelson(t, "add", node, "--address", "198.19.0.77")
	s.apply(servers)
	pods := s.readyPods("web", nodeCount)
	moved := onNode(t, pods, node)
	if moved.Status.HostIP != "198.19.0.77" {
		t.Errorf("the address of node %s is %s", node, moved.Status.HostIP)
	}
	for _, pod := range pods {
		eventually(t, soon, "Pods on node "+pod.Spec.NodeName+" reach the one on the new node", func() error {
			_, err := s.askFromPod(pod.Name, "http://"+moved.Status.PodIP+":8080/")
			return err
		})
	}
	checkNamesWhileADNSServerDies(t, s, pods)
}

// awaitSince fails the test unless check holds within a time from a moment on.
func awaitSince(t *testing.T, begin time.Time, within time.Duration, what string, check func(context.Context) error) time.Duration {
	t.Helper()
	eventually(t, time.Until(begin.Add(within)), what, func() error { return check(t.Context()) })
	took := time.Since(begin)
	t.Logf("%s after %.1f s", what, took.Seconds())
	return took
}
