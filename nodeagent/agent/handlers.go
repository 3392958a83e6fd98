package agent

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
)

// learnHandlers notes what the runtime can do for Pods, once: it follows from the kernel,
// which does not change while the agent runs.
func (a *agent) learnHandlers(ctx context.Context) {
	a.condition.mu.Lock()
	known := a.condition.runtimeHandlers != nil
	a.condition.mu.Unlock()
	if known || a.mapsUsers == nil {
		return
	}
	err := a.mapsUsers()
	if err != nil {
		klog.FromContext(ctx).Info("This machine cannot give Pods user IDs of their own", "reason", err.Error())
	}
	handlers := computeHandlers(err == nil, setsMountsRecursively())
	a.condition.set(func(c *condition) { c.runtimeHandlers = handlers })
}

// computeHandlers lists the runtime under its two names, as containerd's CRI plug-in does
// for the kubelet: that of Pods without a RuntimeClass is empty.
func computeHandlers(users, recursiveReadOnly bool) []corev1.NodeRuntimeHandler {
	features := corev1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: &recursiveReadOnly, UserNamespaces: &users}
	return []corev1.NodeRuntimeHandler{
		{Name: "", Features: features.DeepCopy()},
		{Name: lifecycle.DefaultHandler, Features: features.DeepCopy()},
	}
}

// setsMountsRecursively says that the kernel has mount_setattr (Linux 5.12), with which
// runc makes mounts below a volume read-only. A kernel that has it complains of the file.
func setsMountsRecursively() bool {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	return !errors.Is(err, unix.ENOSYS)
}
