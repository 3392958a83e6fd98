package podcontrol

import (
	"context"

	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/accounts"
	"github.com/keelson-dev/keelson/controllers/internal/podadmission"
)

// admission does for the manager's Pods what depends on other objects than the
// template: the template's own admission could not.
type admission struct{ cached, live client.Reader }

// admit gives pod what its ServiceAccount says.
func (a admission) admit(ctx context.Context, pod *keelsonv1.Pod) error {
	account, err := accounts.Finder{Cached: a.cached, Live: a.live}.Of(ctx, pod)
	if err != nil {
		return err
	}
	podadmission.Account(pod, account, podadmission.TokenVolumePrefix+rand.String(5))
	if problem := podadmission.CheckAccount(&pod.Spec, account); problem != nil {
		return accounts.Forbidden(pod, problem)
	}
	return nil
}
