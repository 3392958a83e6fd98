package agent

import (
	"fmt"

	"golang.org/x/sys/unix"

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
	if !enabled || pod.Spec.SecurityContext == nil || pod.Spec.SecurityContext.SELinuxOptions == nil {
		return nil
	}
	return &refusal{Reason: reasonUnsupported, Message: "spec.securityContext.seLinuxOptions: this node has SELinux and sets no labels"}
}
