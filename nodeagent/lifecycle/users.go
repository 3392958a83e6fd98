package lifecycle

import (
	"errors"

	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// Users gives Pods user IDs of their own; *userns.Manager does. Both methods may be
// repeated.
type Users interface {
	// Acquire returns the Pod's IDs, or says why it cannot have any.
	Acquire(uid types.UID) (userns.Range, error)
	// Release frees them once the Pod's folder is gone.
	Release(uid types.UID)
}

// users are the IDs of the machine that the Pod's processes have, nil for those that they
// see.
func (m *Manager) users(pod *keelsonv1.Pod) (*userns.Range, error) {
	if pod.Spec.HostUsers == nil || *pod.Spec.HostUsers {
		return nil, nil
	}
	if pod.Spec.HostNetwork || pod.Spec.HostPID || pod.Spec.HostIPC { // the API refuses it
		return nil, errors.New("can't set `spec.hostUsers: false` together with hostNetwork, hostPID or hostIPC")
	}
	r, err := m.Users.Acquire(pod.UID)
	if err != nil {
		return nil, err
	}
	return &r, nil
}
