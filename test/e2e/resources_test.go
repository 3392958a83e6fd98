package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// sizedPod asks for cpu and memory, and has no more.
func sizedPod(name, cpu, memory, more string) string {
	return fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: %s
    command: [sh, -c, "cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu.weight 2>/dev/null; sleep 3600"]
    resources: {requests: {cpu: %s, memory: %s}, limits: {cpu: %[3]s, memory: %[4]s}}
%s`, name, cluster.Image(busyboxImage), cpu, memory, more)
}

// resize asks for other resources of a Pod in Keelson's own view.
func (s *space) resize(name, cpu, memory string) {
	s.t.Helper()
	s.plainOf().run("patch", "pod", name, "--subresource=resize", "--type=strategic", "-p", resizePatch(cpu, memory))
}

func resizePatch(cpu, memory string) string {
	return fmt.Sprintf(`{"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": %q, "memory": %q}, "limits": {"cpu": %[1]q, "memory": %[2]q}}}]}}`, cpu, memory)
}

// sized waits until the container has these resources and nothing of the Pod is being
// resized any more.
func (s *space) sized(name, cpu, memory string, restarts int32) *keelsonv1.Pod {
	s.t.Helper()
	return s.podWhen(name, "it has "+cpu+" and "+memory, func(pod *keelsonv1.Pod) error {
		c := statusIn(pod.Status.ContainerStatuses, "main")
		if c.Resources == nil || c.State.Running == nil {
			return fmt.Errorf("container %+v", c)
		}
		for _, kind := range []corev1.PodConditionType{corev1.PodResizePending, corev1.PodResizeInProgress} {
			if condition := conditionOf(pod, kind); condition.Status == corev1.ConditionTrue {
				return fmt.Errorf("condition %+v", condition)
			}
		}
		wantCPU, wantMemory := resource.MustParse(cpu), resource.MustParse(memory)
		if c.Resources.Limits.Cpu().Cmp(wantCPU) != 0 || c.AllocatedResources.Memory().Cmp(wantMemory) != 0 || c.RestartCount != restarts {
			return fmt.Errorf("it has %+v of %+v after %d restarts", c.Resources, c.AllocatedResources, c.RestartCount)
		}
		return nil
	})
}

func TestResizeInPlace(t *testing.T) {
	s := newSpace(t)
	limit := func(name string) string {
		return strings.TrimSpace(s.plainOf().run("exec", name, "--", "sh", "-c",
			"cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true"))
	}
	s.apply(sizedPod("grows", "50m", "32Mi", ""))
	s.apply(sizedPod("restarts", "50m", "32Mi", "    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]\n"))
	for _, name := range []string{"grows", "restarts"} {
		s.sized(name, "50m", "32Mi", 0)
	}
	s.resize("grows", "100m", "64Mi")
	s.resize("restarts", "100m", "64Mi")
	s.sized("grows", "100m", "64Mi", 0)
	s.sized("restarts", "100m", "64Mi", 1)
	for _, name := range []string{"grows", "restarts"} {
		if got := limit(name); got != "67108864" {
			t.Errorf("%s: the kernel lets it have %s", name, got)
		}
	}
	kill(t, "keelson-node", syscall.SIGKILL)
	s.resize("grows", "70m", "40Mi")
	s.sized("grows", "70m", "40Mi", 0)
	if got := limit("grows"); got != "41943040" {
		t.Errorf("after a kill of the agent the kernel lets it have %s", got)
	}
	s.eventually(soon, "the event", func() error {
		return wantIn(s.events("reason=ResizeCompleted,involvedObject.name=grows"), "ResizeCompleted: Pod resize completed: {\"containers\":[{\"name\":\"main\"")
	})
	s.refuses(t, "grows", "50m", "1000Gi", "node didn't have enough allocatable resources: memory, requested: 1073741824000, allocatable: ")
}

// refuses expects both views to refuse a resize in these words.
func (s *space) refuses(t *testing.T, name, cpu, memory, want string) {
	t.Helper()
	for view, args := range map[*space][]string{
		s:           {"patch", "kpo", name, "--type=json", "-p", jsonResize(cpu, memory)},
		s.plainOf(): {"patch", "pod", name, "--subresource=resize", "-p", resizePatch(cpu, memory)},
	} {
		if out, err := view.try(args...); err == nil || !strings.Contains(out+err.Error(), want) {
			t.Errorf("%v: %s %v", args, out, err)
		}
	}
}

func jsonResize(cpu, memory string) string {
	return fmt.Sprintf(`[{"op": "replace", "path": "/spec/containers/0/resources", "value": {"requests": {"cpu": %q, "memory": %q}, "limits": {"cpu": %[1]q, "memory": %[2]q}}}]`, cpu, memory)
}

func TestResizeWaitsForRoom(t *testing.T) {
	s := newSpace(t)
	allocatable := s.node().Status.Allocatable[corev1.ResourceMemory]
	big := fmt.Sprintf("%dMi", allocatable.Value()>>20-500)
	s.apply(sizedPod("waits", "50m", "32Mi", ""))
	s.apply(sizedPod("holds", "50m", "600Mi", ""))
	s.sized("waits", "50m", "32Mi", 0)
	s.sized("holds", "50m", "600Mi", 0)
	s.resize("waits", "50m", big)
	waiting := s.podWhen("waits", "its resize waits", func(pod *keelsonv1.Pod) error {
		if c := conditionOf(pod, corev1.PodResizePending); c.Reason != corev1.PodReasonDeferred || c.ObservedGeneration != pod.Generation {
			return fmt.Errorf("condition %+v", c)
		}
		return nil
	})
	c := conditionOf(waiting, corev1.PodResizePending)
	if !strings.HasPrefix(c.Message, "Node didn't have enough resource: memory, requested: ") {
		t.Errorf("it says %q", c.Message)
	}
	kill(t, "keelson-node", syscall.SIGKILL) // what it was given survives
	s.podWhen("waits", "it still waits", func(pod *keelsonv1.Pod) error {
		given := statusIn(pod.Status.ContainerStatuses, "main").AllocatedResources
		if got := given.Memory().String(); got != "32Mi" {
			t.Fatalf("it was given %s", got)
		}
		return nil
	})
	s.run("delete", "kpo", "holds")
	s.sized("waits", "50m", big, 0)
}

func TestOutOfMemoryLoop(t *testing.T) {
	s := newSpace(t)
	s.apply(strings.Replace(sizedPod("hungry", "100m", "20Mi", ""),
		`"cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu.weight 2>/dev/null; sleep 3600"`,
		`"x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo unreachable"`, 1))
	pod := s.podWhen("hungry", "it was killed twice and is held off", func(pod *keelsonv1.Pod) error {
		c := statusIn(pod.Status.ContainerStatuses, "main")
		if c.RestartCount < 1 || c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" {
			return fmt.Errorf("container %+v", c)
		}
		return nil
	})
	last := statusIn(pod.Status.ContainerStatuses, "main").LastTerminationState.Terminated
	if last == nil || last.Reason != "OOMKilled" || last.ExitCode != 137 {
		t.Errorf("it ended with %+v", last)
	}
	s.apply(shellPod("beside", "Never", "echo fine"))
	s.phase("beside", corev1.PodSucceeded)
	if err := s.condition(corev1.NodeReady, corev1.ConditionTrue); err != nil {
		t.Error(err)
	}
}

func TestForkBombUnderAPodPidsLimit(t *testing.T) {
	s := newSpace(t)
	defer s.nodeConfig("podPidsLimit: 50\nkubeReserved: {cpu: 100m, memory: 100Mi}\nimageGCHighThreshold: 100\nevictionHard: {memory.available: 100Mi}\n")()
	s.apply(shellPod("bomb", "Never", "i=0; while [ $i -lt 200 ]; do sleep 3600 & i=$((i+1)); done; echo unreachable"))
	s.podWhen("bomb", "it can make no more processes", func(pod *keelsonv1.Pod) error {
		return wantIn(logs(t, pod, "c0"), "can't fork")
	})
	s.apply(shellPod("beside", "Never", "for i in 1 2 3 4 5 6 7 8 9 10; do true & done; wait; echo fine"))
	s.phase("beside", corev1.PodSucceeded)
	s.run("delete", "kpo", "bomb")
	node := s.node()
	capacity, allocatable := node.Status.Capacity.Cpu(), node.Status.Allocatable.Cpu()
	if capacity.MilliValue()-allocatable.MilliValue() != 100 {
		t.Errorf("Pods get %v of %v", allocatable, capacity)
	}
	s.run("delete", "kpo", "beside")
}
