// Package quota tests ResourceQuotas with a real API server: who is let in, also when
// the replicas of admission change, and what is counted.
package quota

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/config"
	webhookconfig "github.com/keelson-dev/keelson/config/webhook"
	"github.com/keelson-dev/keelson/controllers/admission"
	"github.com/keelson-dev/keelson/controllers/resourcequota"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv, env.StockAdmission)) }

// balancer passes connections on to replicas in turn, as a Service does.
type balancer struct {
	listener net.Listener
	replicas []string
	next     atomic.Int32
	// only, when it is not zero, is the one replica (from 1) that is left.
	only atomic.Int32
	wg   sync.WaitGroup
}

func newBalancer(t *testing.T, replicas ...string) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: listener, replicas: replicas}
	b.wg.Go(b.serve)
	t.Cleanup(func() {
		listener.Close()
		b.wg.Wait()
	})
	return b
}

func (b *balancer) serve() {
	for {
		from, err := b.listener.Accept()
		if err != nil {
			return
		}
		replica := b.replicas[int(b.next.Add(1))%len(b.replicas)]
		if only := b.only.Load(); only > 0 {
			replica = b.replicas[only-1]
		}
		go func() {
			defer from.Close()
			to, err := net.Dial("tcp", replica)
			if err != nil {
				return
			}
			defer to.Close()
			go func() {
				_, _ = io.Copy(to, from)
				_ = to.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(from, to)
		}()
	}
}

func (b *balancer) url() string {
	return "https://localhost:" + strconv.Itoa(b.listener.Addr().(*net.TCPAddr).Port)
}

// start runs two replicas of admission behind one address and the controller of quotas
// in one of them.
func start(t *testing.T) *balancer {
	t.Helper()
	objects, err := config.Objects(config.Namespaces, config.ManagerRBAC)
	if err != nil {
		t.Fatal(err)
	}
	ports := []int{freePort(t), freePort(t)}
	var replicas []string
	for _, port := range ports {
		replicas = append(replicas, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	b := newBalancer(t, replicas...)
	registrations, err := webhookconfig.ForURL(b.url())
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range append(objects, registrations...) {
		if err := testEnv.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, object := range registrations {
			if err := testEnv.Client.Delete(context.WithoutCancel(t.Context()), object); err != nil {
				t.Error(err)
			}
		}
	})
	// They work with the rights of the real manager, not with a test's.
	manager := testEnv
	manager.Config = rest.CopyConfig(testEnv.Config)
	manager.Config.Impersonate = rest.ImpersonationConfig{UserName: keelsonv1.ManagerUser}
	for i, port := range ports {
		manager.StartManager(t, func(mgr ctrl.Manager) error {
			err := admission.Add(mgr, admission.Options{ServiceCIDR: "10.254.0.0/16", NodePortRange: "30000-32767", URL: b.url()})
			if i == 0 {
				err = errors.Join(err, resourcequota.Add(mgr, resourcequota.Options{}))
			}
			return err
		}, func(o *ctrl.Options) {
			o.WebhookServer = webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: port})
		})
	}
	for i := range ports {
		b.only.Store(int32(i + 1))
		env.Eventually(t, func() string {
			probe := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}
			if err := testEnv.Client.Create(t.Context(), probe, client.DryRunAll); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	b.only.Store(0)
	return b
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
