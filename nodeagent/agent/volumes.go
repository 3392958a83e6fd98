package agent

import (
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/tokens"
	"github.com/keelson-dev/keelson/nodeagent/volumes"
)

// volumes makes Pods' volumes on this machine from the objects of the API.
func (a *agent) volumes() lifecycle.Volumes {
	return volumes.New(volumes.Options{
		PodsDir: filepath.Join(a.options.RootDir, lifecycle.PodsFolder),
		Objects: a.objects, Tokens: tokens.NewManager(tokens.API{Client: a.api.client}, a.clock),
		Mounter: volumes.Kernel{}, Clock: a.clock,
		Allocatable: func() corev1.ResourceList { return a.nodeAnyway().Status.Allocatable },
	})
}

// trackObjects watches what pod names as long as it may need it.
func (a *agent) trackObjects(pod *keelsonv1.Pod) {
	if terminal(pod) {
		a.objects.Forget(pod.UID)
		return
	}
	a.objects.Track(pod)
}
