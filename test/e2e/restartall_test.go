package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// A container whose rule says so takes all others of its Pod along, in the same sandbox.
func TestOneContainerRestartsAllOthers(t *testing.T) {
	s := newSpace(t)
	manifest := shellPod("together", "Never", "until [ -e /v/go ]; do sleep 0.1; done; rm /v/go; exit 42", "echo started >> /v/starts; exec sleep 3600")
	manifest = strings.Replace(manifest, "  - name: c0\n", `  - name: c0
    restartPolicy: Never
    restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [42]}}]
    volumeMounts: [{name: v, mountPath: /v}]
`, 1)
	manifest = strings.Replace(manifest, "  - name: c1\n", "  - name: c1\n    volumeMounts: [{name: v, mountPath: /v}]\n", 1)
	s.apply(manifest + "  volumes: [{name: v, emptyDir: {}}]\n")
	before := s.podWhen("together", "both run", func(pod *keelsonv1.Pod) error {
		if pod.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("phase %s", pod.Status.Phase)
		}
		return nil
	})
	p := &space{t: t, Name: s.Name, plain: true}
	p.run("exec", "together", "-c", "c1", "--", "touch", "/v/go")
	after := s.podWhen("together", "both were restarted", func(pod *keelsonv1.Pod) error {
		for _, c := range pod.Status.ContainerStatuses {
			if c.RestartCount != 1 || c.State.Running == nil {
				return fmt.Errorf("%s: %d restarts, %+v", c.Name, c.RestartCount, c.State)
			}
			if last := c.LastTerminationState.Terminated; last == nil || last.Reason != "RestartingAllContainers" {
				return fmt.Errorf("%s ended as %+v", c.Name, last)
			}
		}
		return nil
	})
	if after.Status.PodIP != before.Status.PodIP || after.Status.Phase != corev1.PodRunning {
		t.Errorf("was %s at %s, is %s at %s", before.Status.Phase, before.Status.PodIP, after.Status.Phase, after.Status.PodIP)
	}
	p.want([]string{"exec", "together", "-c", "c1", "--", "cat", "/v/starts"}, "started\nstarted")
}
