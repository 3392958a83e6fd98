package podcontrol

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podchain"
)

// admitter does for the manager's Pods what the webhook does for those of people. A
// Pod that is refused is tried again, so nobody waits for an account to appear.
func admitter(cached, live client.Reader) func(context.Context, *keelsonv1.Pod) error {
	chain, err := podchain.New(cached, live, false)
	if err != nil {
		return func(context.Context, *keelsonv1.Pod) error { return err }
	}
	return chain.AdmitFromTemplate
}
