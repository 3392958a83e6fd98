package replicas

import (
	"context"

	"k8s.io/apimachinery/pkg/util/rand"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/accounts"
	"github.com/keelson-dev/keelson/controllers/internal/podadmission"
)

// applyAccount gives pod what its ServiceAccount says. The template's admission could
// not: the account is looked up for each Pod.
func (e *Engine) applyAccount(ctx context.Context, pod *keelsonv1.Pod) error {
	account, err := e.Account(ctx, pod)
	if err != nil {
		return err
	}
	podadmission.Account(pod, account, podadmission.TokenVolumePrefix+rand.String(5))
	if problem := podadmission.CheckAccount(&pod.Spec, account); problem != nil {
		return accounts.Forbidden(pod, problem)
	}
	return nil
}
