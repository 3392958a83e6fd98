package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// TestUserNamespaces runs a Pod whose root is nobody on the machine: its Secret, its
// emptyDir, its own address, the files of its image and of an image that is a volume are
// those of any Pod. /proc without
// masks is for such Pods only.
func TestUserNamespaces(t *testing.T) {
	if err := (&userns.Support{Dir: t.TempDir()}).Check(); err != nil {
		t.Skipf("this machine has no user namespaces for Pods: %v", err)
	}
	s := newSpace(t)
	manifest := func(name, hostUsers string) string {
		return fmt.Sprintf(`apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: Never
  hostUsers: %s
  securityContext: {fsGroup: 2000}
  containers:
  - name: main
    image: %s
    securityContext: {procMount: Unmasked}
    command: [sh, -c]
    args:
    - |
      awk '{print $1, ($2 > 65535), $3}' /proc/self/uid_map; id -u; cat /secret/key; echo
      echo mine > /scratch/file; stat -c %%u:%%g /scratch/file /etc/hosts /bin/busybox /image/bin/busybox /single
      ip addr show eth0 | grep -c 'inet '; mount | grep -c ' on /proc/'; echo done > /dev/stdout
      echo said > /dev/termination-log
    volumeMounts: [{name: secret, mountPath: /secret}, {name: scratch, mountPath: /scratch}, {name: image, mountPath: /image}, {name: image, mountPath: /single, subPath: bin/busybox}]
  volumes:
  - {name: secret, secret: {secretName: key, defaultMode: 0400}}
  - {name: scratch, emptyDir: {}}
  - {name: image, image: {reference: %[3]s}}
`, name, hostUsers, cluster.Image(busyboxImage))
	}
	s.run("create", "secret", "generic", "key", "--from-literal=key=value")
	s.apply(manifest("mapped", "false"))
	pod := s.phase("mapped", corev1.PodSucceeded)
	want := "0 1 65536\n0\nvalue\n0:2000\n0:0\n0:0\n0:0\n0:0\n1\n0\ndone\n"
	s.eventually(soon, "the Pod sees what others see", func() error {
		if got := logs(t, pod, "main"); got != want {
			return fmt.Errorf("it said %q, want %q", got, want)
		}
		return nil
	})
	if message := pod.Status.ContainerStatuses[0].State.Terminated.Message; message != "said\n" {
		t.Errorf("termination message %q", message)
	}
	out, err := s.tryApply(manifest("unmapped", "true"))
	if err == nil || !strings.Contains(out, "`hostUsers` must be false to use `Unmasked`") {
		t.Errorf("Unmasked with the machine's users: %v\n%s", err, out)
	}
}
