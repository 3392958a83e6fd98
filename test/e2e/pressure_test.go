package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// nodeConfig has the node run with these settings until restore is called.
func (s *space) nodeConfig(settings string) (restore func()) {
	s.t.Helper()
	path := filepath.Join(cluster.DataDir, "node.yaml")
	before, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.restartNode(path, "apiVersion: config.keelson.dev/v1alpha1\nkind: NodeConfiguration\n"+settings)
	return func() {
		s.restartNode(path, string(before))
		s.eventually(eventual, "the node is short of nothing", func() error {
			return s.condition(corev1.NodeDiskPressure, corev1.ConditionFalse)
		})
		s.eventually(eventual, "the node takes Pods again", func() error {
			if node := s.node(); len(node.Spec.Taints) > 0 {
				return fmt.Errorf("taints %v", node.Spec.Taints)
			}
			return nil
		})
	}
}

func (s *space) restartNode(path, config string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	old := processesOf(s.t, "keelson-node")
	kill(s.t, "keelson-node", syscall.SIGKILL)
	s.eventually(eventual, "keelson-node runs again", func() error {
		if now := processesOf(s.t, "keelson-node"); len(now) == 0 || slices.Equal(now, old) {
			return fmt.Errorf("processes %v", now)
		}
		return nil
	})
}

// node is the cluster's only one.
func (s *space) node() *keelsonv1.Node {
	s.t.Helper()
	node := &keelsonv1.Node{}
	name := s.run("get", "kno", "-o", "jsonpath={.items[0].metadata.name}")
	if err := s.get(node, "kno", name); err != nil {
		s.t.Fatal(err)
	}
	return node
}

func (s *space) condition(kind corev1.NodeConditionType, want corev1.ConditionStatus) error {
	for _, c := range s.node().Status.Conditions {
		if c.Type == kind && c.Status == want {
			return nil
		}
	}
	return fmt.Errorf("conditions %+v", s.node().Status.Conditions)
}

func (s *space) events(selector string) string {
	return s.run("get", "events", "--field-selector", selector, "-o", "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}")
}

// evicted waits until a Pod was ended by the node and returns it.
func (s *space) evicted(name string) *keelsonv1.Pod {
	s.t.Helper()
	pod := s.phase(name, corev1.PodFailed)
	if pod.Status.Reason != "Evicted" {
		s.t.Errorf("Pod %s failed with %s: %s", name, pod.Status.Reason, pod.Status.Message)
	}
	s.eventually(soon, "the event", func() error {
		return wantIn(s.events("reason=Evicted,involvedObject.name="+name), "Evicted: "+pod.Status.Message)
	})
	return pod
}

func TestNodeTellsOfImagesAndDisk(t *testing.T) {
	s := newSpace(t)
	s.apply(shellPod("one", "Never", "true"))
	s.phase("one", corev1.PodSucceeded)
	image := cluster.Image(busyboxImage)
	s.eventually(eventual, "the image is on the Node", func() error {
		for _, i := range s.node().Status.Images {
			if slices.Contains(i.Names, image) && i.SizeBytes > 0 && strings.Contains(i.Names[0], "@sha256:") {
				return nil
			}
		}
		return fmt.Errorf("images %v", s.node().Status.Images)
	})
	node := s.node()
	if size := node.Status.Capacity.StorageEphemeral(); size.Value() < 1<<30 {
		t.Errorf("ephemeral storage %v", size)
	}
	for _, kind := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		if err := s.condition(kind, corev1.ConditionFalse); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestEphemeralStorageLimits(t *testing.T) {
	s := newSpace(t)
	const write = "dd if=/dev/zero of=%s bs=1024 count=5000 2>/dev/null; sleep 1000"
	limited := func(name, path string, limits ...string) string {
		pod := shellPod(name, "Always", fmt.Sprintf(write, path), "sleep 1000")
		for i, limit := range limits {
			container := fmt.Sprintf("  - name: c%d\n", i)
			pod = strings.Replace(pod, container, container+"    resources: {limits: {ephemeral-storage: "+limit+"}}\n", 1)
		}
		return pod
	}
	s.apply(limited("within", "/file", "100Mi"))
	s.apply(limited("pod", "/file", "1Mi"))
	s.apply(limited("container", "/file", "1Mi", "100Mi"))
	s.apply(strings.Replace(limited("volume", "/disk/file"), "command: ", "volumeMounts: [{name: disk, mountPath: /disk}]\n    command: ", 1) +
		"  volumes: [{name: disk, emptyDir: {sizeLimit: 1Mi}}]\n")
	for name, want := range map[string]string{
		"pod":       "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ",
		"container": `Container c0 exceeded its local ephemeral storage limit "1Mi". `,
		"volume":    `Usage of EmptyDir volume "disk" exceeds the limit "1Mi". `,
	} {
		if pod := s.evicted(name); pod.Status.Message != want {
			t.Errorf("%s: %q, want %q", name, pod.Status.Message, want)
		}
	}
	s.phase("within", corev1.PodRunning)
}

// TestNodeShortOfDisk makes the node take its disk for too full.
func TestNodeShortOfDisk(t *testing.T) {
	s := newSpace(t)
	unused := strings.Replace(shellPod("unused", "Always", "true"), "    command: [sh, -c, \"true\"]\n", "", 1)
	s.apply(strings.Replace(unused, busyboxImage, testserverImage, 1))
	s.phase("unused", corev1.PodRunning)
	hasImage := func() bool {
		return slices.ContainsFunc(s.node().Status.Images, func(i corev1.ContainerImage) bool {
			return slices.Contains(i.Names, cluster.Image(testserverImage))
		})
	}
	s.eventually(eventual, "its image is on the Node", func() error {
		if !hasImage() {
			return fmt.Errorf("images %v", s.node().Status.Images)
		}
		return nil
	})
	s.run("delete", "kpo", "unused")
	s.apply(shellPod("small", "Always", "sleep 1000"))
	s.apply(shellPod("large", "Always", "dd if=/dev/zero of=/file bs=1024 count=30000 2>/dev/null; echo written; sleep 1000"))
	asking := shellPod("asking", "Always", "dd if=/dev/zero of=/file bs=1024 count=40000 2>/dev/null; echo written; sleep 1000")
	s.apply(strings.Replace(asking, "    command: ", "    resources: {requests: {ephemeral-storage: 1Gi}}\n    command: ", 1))
	s.phase("small", corev1.PodRunning)
	for _, name := range []string{"large", "asking"} {
		pod := s.phase(name, corev1.PodRunning)
		s.eventually(eventual, name+" has written", func() error { return wantIn(logs(t, pod, "c0"), "written") })
	}
	// Nothing of the disk in use can make up for this: the node ends one Pod after the other.
	defer s.nodeConfig("evictionHard: {nodefs.available: 99.9%}\nimageGCHighThreshold: 100\nimageMinimumGCAge: 1ms\nevictionPressureTransitionPeriod: 1h\n")()

	var ended []time.Time
	for _, name := range []string{"large", "small", "asking"} { // beyond the request first, those that use most first
		pod := s.evicted(name)
		if err := wantIn(pod.Status.Message, "The node was low on resource: ephemeral-storage. Threshold quantity: ", ", available: "); err != nil {
			t.Error(err)
		}
		disruption := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget })
		if disruption < 0 || pod.Status.Conditions[disruption].Reason != "TerminationByKubelet" || pod.Status.Conditions[disruption].Status != corev1.ConditionTrue {
			t.Errorf("%s: conditions %+v", name, pod.Status.Conditions)
		}
		ended = append(ended, pod.Status.ContainerStatuses[0].State.Terminated.FinishedAt.Time)
		if name == "large" {
			if err := wantIn(pod.Status.Message, "Container c0 was using ", ", request is 0, has larger consumption of ephemeral-storage. "); err != nil {
				t.Error(err)
			}
		}
	}
	if !slices.IsSortedFunc(ended, time.Time.Compare) {
		t.Errorf("large, small and asking ended at %v", ended)
	}
	s.eventually(eventual, "DiskPressure", func() error { return s.condition(corev1.NodeDiskPressure, corev1.ConditionTrue) })
	s.eventually(eventual, "the taint", func() error {
		return wantIn(fmt.Sprint(s.node().Spec.Taints), "node.kubernetes.io/disk-pressure")
	})
	out := s.run("get", "events", "-A", "--field-selector", "reason=EvictionThresholdMet", "-o", "jsonpath={.items[*].message}")
	if err := wantIn(out, "Attempting to reclaim ephemeral-storage"); err != nil {
		t.Error(err)
	}
	s.eventually(eventual, "the image that nobody uses is gone", func() error {
		if hasImage() {
			return fmt.Errorf("images %v", s.node().Status.Images)
		}
		return nil
	})

	t.Log("A Pod that names the node is refused, one that does not waits")
	bound := strings.Replace(shellPod("bound", "Never", "true"), "spec:\n", "spec:\n  nodeName: "+s.node().Name+"\n", 1)
	s.apply(bound)
	if pod := s.phase("bound", corev1.PodFailed); pod.Status.Reason != "Evicted" || pod.Status.Message != "Pod was rejected: The node had condition: [DiskPressure]. " {
		t.Errorf("failed with %s: %q", pod.Status.Reason, pod.Status.Message)
	}
	s.apply(shellPod("waits", "Never", "true"))
	s.pending("waits", "untolerated taint")
}

func TestLogsRotate(t *testing.T) {
	s := newSpace(t)
	defer s.nodeConfig("containerLogMaxSize: 20Ki\ncontainerLogMaxFiles: 3\ncontainerLogMonitorInterval: 3s\nimageGCHighThreshold: 100\nevictionHard: {memory.available: 100Mi}\n")()
	s.apply(shellPod("talks", "Never", "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; for j in 1 2 3 4 5 6 7 8 9; do echo rest; done; sleep 0.05; done"))
	pod := s.phase("talks", corev1.PodRunning)
	dir := filepath.Join("/var/log/pods", fmt.Sprintf("%s_talks_%s", s.Name, pod.UID), "c0")
	followed := s.plainOf().run("logs", "-f", "talks")
	want := 0
	for line := range strings.Lines(followed) {
		if text, ok := strings.CutPrefix(line, "line "); ok {
			want++
			if strings.TrimSpace(text) != fmt.Sprint(want) {
				t.Fatalf("line %d is %q", want, text)
			}
		}
	}
	if want != 300 {
		t.Errorf("%d lines were followed", want)
	}
	s.phase("talks", corev1.PodSucceeded)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	packed := 0
	for _, e := range entries {
		names = append(names, e.Name())
		if strings.HasSuffix(e.Name(), ".gz") {
			packed++
		}
	}
	if len(names) != 3 || packed != 1 {
		t.Errorf("files %v, want the log, one put aside and one compressed", names)
	}
	s.run("delete", "kpo", "talks")
	s.eventually(eventual, "the logs are gone", func() error {
		if _, err := os.Stat(dir); err == nil {
			return fmt.Errorf("%s is there", dir)
		}
		return nil
	})
}

// plainOf is the same space in the plain Kubernetes view.
func (s *space) plainOf() *space { return &space{t: s.t, Name: s.Name, plain: true} }
