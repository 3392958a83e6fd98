package agent

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// makeService creates a Service without an address in a namespace of its own.
func (m *machine) makeService(namespace string) *keelsonv1.Service {
	m.t.Helper()
	if err := m.client.Create(m.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		m.t.Fatal(err)
	}
	s := &keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: namespace}}
	s.Spec.Ports = []corev1.ServicePort{{Port: 6379, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(6379)}}
	if err := m.client.Create(m.t.Context(), s); err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *machine) makePodIn(namespace, name string) *keelsonv1.Pod {
	pod := m.makePod(name)
	pod.Namespace = namespace
	return pod
}

func TestContainerWaitsForServiceAddress(t *testing.T) {
	m := newMachine(t, "awaits-address")
	m.serviceAddressWait = patience
	m.join()
	service := m.makeService("awaits-address")

	pod := m.create(m.makePodIn("awaits-address", "web"))
	m.eventually("the sandbox runs", func(ctx context.Context) bool {
		state, err := m.runtime.Pod(ctx, pod.UID)
		return err == nil && len(state.Sandboxes) == 1
	})
	patch := client.MergeFrom(service.DeepCopy())
	service.Spec.ClusterIP = "10.254.0.7"
	if err := m.client.Patch(t.Context(), service, patch); err != nil {
		t.Fatal(err)
	}
	m.eventuallyShows(pod, "Running")
	if env := m.runtime.Config(pod.UID, "main").Env; !slices.Contains(env, "DB_SERVICE_HOST=10.254.0.7") {
		t.Errorf("variables are %v", env)
	}
}

func TestContainerStartsWithoutServiceAddress(t *testing.T) {
	m := newMachine(t, "no-address")
	m.serviceAddressWait = 50 * time.Millisecond
	m.join()
	m.makeService("no-address")

	pod := m.eventuallyShows(m.create(m.makePodIn("no-address", "web")), "Running")
	env := m.runtime.Config(pod.UID, "main").Env
	if slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "DB_") }) {
		t.Errorf("variables are %v", env)
	}
}

func TestDeletionEndsTheWaitForAnAddress(t *testing.T) {
	m := newMachine(t, "deleted-waiting")
	m.serviceAddressWait = time.Hour
	m.join()
	m.makeService("deleted-waiting")
	pod := m.create(m.makePodIn("deleted-waiting", "web"))
	m.eventually("the sandbox runs", func(ctx context.Context) bool {
		state, err := m.runtime.Pod(ctx, pod.UID)
		return err == nil && len(state.Sandboxes) == 1
	})

	if err := m.client.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	m.eventuallyGone(pod)
	m.nothingLeft()
}
