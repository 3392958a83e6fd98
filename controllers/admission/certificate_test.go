package admission

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const day = 24 * time.Hour

var testNames = []string{"keelson-webhook.keelson-system.svc", "localhost"}

// replicas are managers that share one API server and one clock.
type replicas struct {
	client client.Client
	clock  *testclock.FakePassiveClock
	writes int
}

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	scheme, err := certificateScheme()
	if err != nil {
		t.Fatal(err)
	}
	r := &replicas{clock: testclock.NewFakePassiveClock(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))}
	registration := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: ConfigurationName},
		Webhooks:   []admissionregistrationv1.MutatingWebhook{{Name: "admission.keelson.dev"}},
	}
	r.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(registration).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			r.writes++
			return c.Create(ctx, o, options...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.UpdateOption) error {
			r.writes++
			return c.Update(ctx, o, options...)
		},
	}).Build()
	return r
}

func (r *replicas) newReplica() *certificateReconciler {
	return &certificateReconciler{client: r.client, clock: r.clock, names: testNames, serving: &servingCertificate{}}
}

func (r *replicas) pass(d time.Duration) { r.clock.SetTime(r.clock.Now().Add(d)) }

// bundle is the CA that the API server trusts.
func (r *replicas) bundle(t *testing.T) []byte {
	t.Helper()
	registration := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := r.client.Get(t.Context(), types.NamespacedName{Name: ConfigurationName}, registration); err != nil {
		t.Fatal(err)
	}
	return registration.Webhooks[0].ClientConfig.CABundle
}

func look(t *testing.T, r *certificateReconciler) reconcile.Result {
	t.Helper()
	result, err := r.Reconcile(t.Context(), reconcile.Request{})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// handshake connects to a replica as an API server that trusts bundle does.
func (r *replicas) handshake(t *testing.T, replica *certificateReconciler, name string, bundle []byte) error {
	t.Helper()
	config := &tls.Config{}
	replica.serving.serve(config)
	server, connection := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The client's side reports what went wrong.
		_ = tls.Server(server, config).HandshakeContext(t.Context())
		server.Close()
	}()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	err := tls.Client(connection, &tls.Config{ServerName: name, RootCAs: pool, Time: r.clock.Now}).HandshakeContext(t.Context())
	connection.Close()
	<-done
	return err
}

func (r *replicas) mustTrust(t *testing.T, replica *certificateReconciler, bundle []byte) {
	t.Helper()
	for _, name := range testNames {
		if err := r.handshake(t, replica, name, bundle); err != nil {
			t.Errorf("handshake with %s: %v", name, err)
		}
	}
}

func TestCertificateOfAFirstStart(t *testing.T) {
	r := newReplicas(t)
	first, second := r.newReplica(), r.newReplica()
	if first.serving.ready() == nil {
		t.Error("a replica is ready before it has a certificate")
	}
	if err := r.handshake(t, first, "localhost", nil); err == nil {
		t.Error("a replica without a certificate completed a handshake")
	}
	look(t, first)
	look(t, second)
	if r.writes != 1 {
		t.Errorf("%d writes of the Secret, want 1: the second replica takes what is there", r.writes)
	}
	r.mustTrust(t, first, r.bundle(t))
	r.mustTrust(t, second, r.bundle(t))
	if err := r.handshake(t, first, "elsewhere", r.bundle(t)); err == nil {
		t.Error("the certificate is good for any name")
	}
	if err := first.serving.ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
}

func TestServerCertificateIsRenewedInTime(t *testing.T) {
	r := newReplicas(t)
	replica := r.newReplica()
	result := look(t, replica)
	before := r.bundle(t)
	served := replica.serving.current.Load().Certificate[0]
	r.pass(result.RequeueAfter)
	look(t, replica)
	if cmp.Equal(served, replica.serving.current.Load().Certificate[0]) {
		t.Errorf("the certificate was not renewed after %s", result.RequeueAfter)
	}
	if diff := cmp.Diff(before, r.bundle(t)); diff != "" {
		t.Errorf("the CA changed with the server certificate (-before +after):\n%s", diff)
	}
	r.mustTrust(t, replica, before)
}

func TestAuthorityIsReplacedWithoutAGap(t *testing.T) {
	r := newReplicas(t)
	fast, slow := r.newReplica(), r.newReplica()
	look(t, fast)
	for range 4 { // server certificates of the same CA
		r.pass(60 * day)
		look(t, fast)
	}
	look(t, slow)
	before := r.bundle(t)
	r.pass(5 * day)
	look(t, fast)
	if cmp.Equal(before, r.bundle(t)) {
		t.Fatal("the CA was not renewed with a third of its life left")
	}
	// slow still serves the certificate of the old CA.
	r.mustTrust(t, slow, r.bundle(t))
	r.mustTrust(t, fast, r.bundle(t))
	look(t, slow)
	r.mustTrust(t, slow, r.bundle(t))
	if err := r.handshake(t, slow, "localhost", before); err == nil {
		t.Error("slow still serves the certificate of the old CA")
	}
}

func TestCertificateAfterDamage(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, *replicas){
		"the Secret is gone": func(t *testing.T, r *replicas) {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: SecretName}}
			if err := r.client.Delete(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
		},
		"the Secret is rubbish": func(t *testing.T, r *replicas) {
			r.editSecret(t, func(data map[string][]byte) { data["ca.crt"] = []byte("rubbish") })
		},
		"the key is of another certificate": func(t *testing.T, r *replicas) {
			r.editSecret(t, func(data map[string][]byte) { data["tls.key"] = data["ca.key"] })
		},
		"the registration was applied again without a CA": func(t *testing.T, r *replicas) {
			registration := &admissionregistrationv1.MutatingWebhookConfiguration{}
			if err := r.client.Get(t.Context(), types.NamespacedName{Name: ConfigurationName}, registration); err != nil {
				t.Fatal(err)
			}
			registration.Webhooks[0].ClientConfig.CABundle = nil
			if err := r.client.Update(t.Context(), registration); err != nil {
				t.Fatal(err)
			}
		},
		"the process was away for years": func(_ *testing.T, r *replicas) { r.pass(900 * day) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplicas(t)
			replica := r.newReplica()
			look(t, replica)
			damage(t, r)
			look(t, replica)
			r.mustTrust(t, replica, r.bundle(t))
		})
	}
}

func (r *replicas) editSecret(t *testing.T, edit func(map[string][]byte)) {
	t.Helper()
	secret := &corev1.Secret{}
	if err := r.client.Get(t.Context(), secretKey, secret); err != nil {
		t.Fatal(err)
	}
	edit(secret.Data)
	if err := r.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
}

func TestSlowerReplicaGivesWay(t *testing.T) {
	r := newReplicas(t)
	winner, loser := r.newReplica(), r.newReplica()
	look(t, winner)
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "secrets"}, SecretName, nil)
	loser.client = interceptor.NewClient(r.client.(client.WithWatch), interceptor.Funcs{
		Get: func(_ context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
			return apierrors.NewNotFound(schema.GroupResource{}, key.Name) // read before the winner wrote
		},
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return conflict },
	})
	look(t, loser)
	if loser.serving.current.Load() != nil {
		t.Error("the loser serves a certificate that nobody trusts")
	}
	loser.client = r.client
	look(t, loser)
	r.mustTrust(t, loser, r.bundle(t))
}

func TestServingWithoutARegistration(t *testing.T) {
	r := newReplicas(t)
	registration := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: ConfigurationName}}
	if err := r.client.Delete(t.Context(), registration); err != nil {
		t.Fatal(err)
	}
	replica := r.newReplica()
	look(t, replica)
	if err := replica.serving.ready(); err != nil {
		t.Errorf("not ready: %v; the registration may come later", err)
	}
}

func TestServerNames(t *testing.T) {
	const service = "keelson-webhook.keelson-system.svc"
	for name, tc := range map[string]struct {
		url     string
		want    []string
		wantErr string
	}{
		"only the Service":     {"", []string{service}, ""},
		"a host of its own":    {"https://localhost:9443", []string{service, "localhost"}, ""},
		"no TLS":               {"http://localhost:9443", nil, `--webhook-url: "http://localhost:9443" is not of the form https://name:port`},
		"an address":           {"https://127.0.0.1:9443", nil, `--webhook-url: "https://127.0.0.1:9443" has an address where the certificate needs a name, such as https://localhost:9443`},
		"something else again": {"localhost:9443", nil, `--webhook-url: "localhost:9443" is not of the form https://name:port`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := serverNames(tc.url)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if text := errorText(err); text != tc.wantErr {
				t.Errorf("error %q, want %q", text, tc.wantErr)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
