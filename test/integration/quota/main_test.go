// Package quota tests ResourceQuotas with a real API server: who is let in, also when
// the replicas of admission change, and what is counted.
package quota

import (
	"errors"
	"net"
	"os"
	"strconv"
	"testing"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/keelson-dev/keelson/config"
	"github.com/keelson-dev/keelson/controllers/admission"
	"github.com/keelson-dev/keelson/controllers/resourcequota"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv, env.StockAdmission)) }

// start runs two replicas of admission behind one address and the controller of quotas
// in one of them.
func start(t *testing.T) (b *env.Balancer, replicas []string) {
	t.Helper()
	testEnv.Install(t, config.Namespaces, config.ManagerRBAC)
	ports := []int{env.FreePort(t), env.FreePort(t)}
	for _, port := range ports {
		replicas = append(replicas, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	b = env.NewBalancer(t, replicas...)
	testEnv.Register(t, b.URL())
	manager := testEnv.AsManager()
	for i, port := range ports {
		manager.StartManager(t, func(mgr ctrl.Manager) error {
			err := admission.Add(mgr, admission.Options{ServiceCIDR: "10.254.0.0/16", NodePortRange: "30000-32767", URL: b.URL()})
			if i == 0 {
				err = errors.Join(err, resourcequota.Add(mgr, resourcequota.Options{}))
			}
			return err
		}, func(o *ctrl.Options) {
			o.WebhookServer = webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: port})
		})
	}
	for i := range ports {
		b.Only(replicas[i])
		testEnv.EventuallyAdmits(t)
	}
	b.Only("")
	return b, replicas
}
