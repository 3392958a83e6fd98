package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/podcerts"
)

// newCertificates gets the certificates that Pods mount.
func (a *agent) newCertificates(ctx context.Context) *podcerts.Manager {
	return podcerts.New(ctx, podcerts.Options{
		API:   podcerts.APIServer{Client: a.api.watch, Node: a.settings.name},
		Clock: a.clock,
		Node: func() (types.NodeName, types.UID) {
			return types.NodeName(a.settings.name), a.nodeAnyway().UID
		},
		Jitter: rand.N[time.Duration], //nolint:forbidigo // the source that is injected outside of tests
		Record: func(pod *keelsonv1.Pod, eventType, reason, message string) {
			a.manager.Recorder.Record(pod, lifecycle.Note{Type: eventType, Reason: reason, Message: message})
		},
		Changed: func(uid types.UID) { a.pool.Wake(uid) },
	})
}
