package agent

import (
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/objects"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/tokens"
	"github.com/keelson-dev/keelson/nodeagent/volumes"
)

// objectCache reads what Pods of this node name; *objects.Cache is one.
type objectCache interface {
	objects.Reader
	Track(pod *keelsonv1.Pod)
	Forget(uid types.UID)
	Wait()
}

// newVolumes makes Pods' volumes on this machine from the objects of the API.
func (a *agent) newVolumes() *volumes.Manager {
	return volumes.New(volumes.Options{
		PodsDir: filepath.Join(a.options.RootDir, lifecycle.PodsFolder),
		Objects: a.objects, Tokens: tokens.NewManager(tokens.API{Client: a.api.client}, a.clock),
		Trust:   a.trust,
		Images:  a.imageVolumes,
		Mounter: volumes.Kernel{}, Clock: a.clock, Certificates: a.certificates,
		Allocatable: func() corev1.ResourceList { return a.nodeAnyway().Status.Allocatable },
	})
}

// trackObjects watches what pod names as long as it may need it.
func (a *agent) trackObjects(pod *keelsonv1.Pod) {
	if terminal(pod) {
		a.forgetObjects(pod.UID)
		return
	}
	a.objects.Track(pod)
	a.trust.Track(pod)
}

func (a *agent) forgetObjects(uid types.UID) {
	a.objects.Forget(uid)
	a.trust.Forget(uid)
}

// measureVolumes measures the volumes of a Pod that count as ephemeral storage.
func (a *agent) measureVolumes(uid types.UID) (map[string]runtime.DiskUsage, error) {
	pod := a.admitted.get(uid)
	if pod == nil {
		return nil, nil
	}
	return a.volumes.Usage(pod)
}
