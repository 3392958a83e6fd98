package agent

import (
	"fmt"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// seLinuxFolder is where the kernel shows SELinux, when it is switched on.
const seLinuxFolder = "/sys/fs/selinux"

// seLinuxEnabled says whether the machine labels processes, as libselinux finds out:
// by the file system that is mounted there.
func seLinuxEnabled(folder string) (bool, error) {
	var stat unix.Statfs_t
	switch err := unix.Statfs(folder, &stat); err {
	case nil:
		return stat.Type == unix.SELINUX_MAGIC, nil
	case unix.ENOENT, unix.ENOTDIR:
		return false, nil
	default:
		return false, fmt.Errorf("look for SELinux at %s: %w", folder, err)
	}
}

// checkSELinux refuses a Pod that wants labels on a machine that has them: this agent
// sets none. Without SELinux they mean nothing, to upstream's kubelet as well.
func checkSELinux(pod *keelsonv1.Pod, enabled bool) *refusal {
	if !enabled {
		return nil
	}
	refused := func(path string) *refusal {
		return &refusal{Reason: reasonUnsupported, Message: path + ".securityContext.seLinuxOptions: this node has SELinux and sets no labels"}
	}
	if s := pod.Spec.SecurityContext; s != nil && s.SELinuxOptions != nil {
		return refused("spec")
	}
	for name, list := range map[string][]corev1.Container{"initContainers": pod.Spec.InitContainers, "containers": pod.Spec.Containers} {
		for i := range list {
			if s := list[i].SecurityContext; s != nil && s.SELinuxOptions != nil {
				return refused(fmt.Sprintf("spec.%s[%d]", name, i))
			}
		}
	}
	return nil
}
