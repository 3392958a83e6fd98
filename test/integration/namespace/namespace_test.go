// Package namespace_test runs the namespace and service account controllers
// against a real API server.
package namespace_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/namespace"
	"github.com/keelson-dev/keelson/controllers/node"
	"github.com/keelson-dev/keelson/controllers/rootca"
	"github.com/keelson-dev/keelson/controllers/serviceaccount"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

func start(t *testing.T) {
	t.Helper()
	testEnv.StartManager(t, func(mgr ctrl.Manager) error {
		if err := serviceaccount.Add(mgr); err != nil {
			return err
		}
		if err := rootca.Add(mgr, rootca.Options{}); err != nil {
			return err
		}
		if err := node.Add(mgr, node.Options{GracePeriod: time.Minute}); err != nil {
			return err
		}
		return namespace.Add(mgr, namespace.Options{})
	})
}

func create(t *testing.T, o client.Object) {
	t.Helper()
	if err := testEnv.Client.Create(t.Context(), o); err != nil {
		t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
}

func deleteNamespace(t *testing.T, name string) {
	t.Helper()
	if err := testEnv.Client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		t.Fatal(err)
	}
}

func becomesGone(t *testing.T, name string) {
	t.Helper()
	env.Eventually(t, func() string {
		ns := &corev1.Namespace{}
		err := testEnv.Client.Get(t.Context(), types.NamespacedName{Name: name}, ns)
		if apierrors.IsNotFound(err) {
			return ""
		}
		return fmt.Sprintf("namespace is still there (%v): %v", err, ns.Status.Conditions)
	})
}

func condition(t *testing.T, name string, kind corev1.NamespaceConditionType) corev1.NamespaceCondition {
	t.Helper()
	ns := &corev1.Namespace{}
	if err := testEnv.Client.Get(t.Context(), types.NamespacedName{Name: name}, ns); err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(ns.Status.Conditions, func(c corev1.NamespaceCondition) bool { return c.Type == kind })
	if at < 0 {
		return corev1.NamespaceCondition{}
	}
	return ns.Status.Conditions[at]
}

func TestDeletedNamespaceGoesWithItsContent(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	create(t, builders.MakePod("web").Namespace(ns).Obj())
	create(t, builders.MakeService("web").Namespace(ns).Obj())
	create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "settings"}})
	create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "key"}})

	deleteNamespace(t, ns)
	becomesGone(t, ns)

	// A namespace made again under the name starts empty.
	create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
	for _, list := range []client.ObjectList{&keelsonv1.PodList{}, &keelsonv1.ServiceList{}, &corev1.SecretList{}} {
		if err := testEnv.Client.List(t.Context(), list, client.InNamespace(ns)); err != nil {
			t.Fatal(err)
		}
		if left := fmt.Sprint(list); strings.Contains(left, "web") || strings.Contains(left, "key") {
			t.Errorf("%T survived its namespace: %s", list, left)
		}
	}
}

func TestNamespaceWaitsForTheFinalizersOfItsPods(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	pod := builders.MakePod("bound").Namespace(ns).Node("n").Finalizer(keelsonv1.PodFinalizer).Obj()
	create(t, pod)
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "settings"}}
	create(t, settings)

	deleteNamespace(t, ns)

	env.Eventually(t, func() string {
		remaining := condition(t, ns, corev1.NamespaceContentRemaining)
		finalizers := condition(t, ns, corev1.NamespaceFinalizersRemaining)
		if remaining.Status != corev1.ConditionTrue || remaining.Reason != "SomeResourcesRemain" ||
			!strings.Contains(remaining.Message, "pods.core.keelson.dev has 1 resource instances") {
			return fmt.Sprintf("content condition is %+v", remaining)
		}
		if finalizers.Reason != "SomeFinalizersRemain" ||
			!strings.Contains(finalizers.Message, "keelson.dev/pod in 1 resource instances") {
			return fmt.Sprintf("finalizer condition is %+v", finalizers)
		}
		return ""
	})
	// What Pods may use stays until they have ended.
	if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(settings), settings); err != nil {
		t.Fatalf("the ConfigMap went before the Pod: %v", err)
	}

	if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
		t.Fatal(err)
	}
	if pod.DeletionTimestamp == nil {
		t.Error("the Pod was not asked to end")
	}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	if err := testEnv.Client.Patch(t.Context(), pod, patch); err != nil {
		t.Fatal(err)
	}
	becomesGone(t, ns)
}

// What another holds is named with its holder, on an object of the namespace or on the
// namespace itself.
func TestANamespaceSaysWhoHoldsIt(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "held", Finalizers: []string{"example.com/hold"}}}
	create(t, held)
	namespace := &corev1.Namespace{}
	if err := testEnv.Client.Get(t.Context(), types.NamespacedName{Name: ns}, namespace); err != nil {
		t.Fatal(err)
	}
	namespace.Finalizers = append(namespace.Finalizers, "example.com/account")
	if err := testEnv.Client.Update(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}

	deleteNamespace(t, ns)

	const (
		content = "Some resources are remaining: configmaps. has 1 resource instances"
		holders = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
	)
	env.Eventually(t, func() string {
		remaining := condition(t, ns, corev1.NamespaceContentRemaining)
		finalizers := condition(t, ns, corev1.NamespaceFinalizersRemaining)
		if remaining.Message != content || finalizers.Message != holders {
			return fmt.Sprintf("conditions %q and %q", remaining.Message, finalizers.Message)
		}
		return ""
	})
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	if err := testEnv.Client.Patch(t.Context(), held, patch); err != nil {
		t.Fatal(err)
	}
	env.Eventually(t, func() string {
		if err := testEnv.Client.Get(t.Context(), types.NamespacedName{Name: ns}, namespace); err != nil {
			return err.Error()
		}
		if len(namespace.Spec.Finalizers) > 0 || len(namespace.Finalizers) != 1 {
			return fmt.Sprintf("held by %v and %v", namespace.Spec.Finalizers, namespace.Finalizers)
		}
		return ""
	})
	if err := testEnv.Client.Patch(t.Context(), namespace, patch); err != nil {
		t.Fatal(err)
	}
	becomesGone(t, ns)
}

func TestEveryNamespaceHasADefaultServiceAccount(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	key := types.NamespacedName{Namespace: ns, Name: "default"}
	account := &corev1.ServiceAccount{}
	appears := func(not types.UID) {
		t.Helper()
		env.Eventually(t, func() string {
			fresh := &corev1.ServiceAccount{}
			if err := testEnv.Client.Get(t.Context(), key, fresh); err != nil {
				return err.Error()
			}
			if fresh.UID == not {
				return "the old account is still there"
			}
			account = fresh
			return ""
		})
	}
	appears("")

	if err := testEnv.Client.Delete(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	appears(account.UID)

	deleteNamespace(t, ns)
	becomesGone(t, ns)
}

// The certificates come in every namespace, and come back whatever happens to them.
func TestEveryNamespaceHasTheRootCertificates(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	current := func() *corev1.ConfigMap {
		t.Helper()
		published := &corev1.ConfigMap{}
		env.Eventually(t, func() string {
			if err := testEnv.Client.Get(t.Context(), types.NamespacedName{Namespace: ns, Name: "kube-root-ca.crt"}, published); err != nil {
				return err.Error()
			}
			if got := published.Data["ca.crt"]; got != string(testEnv.Config.CAData) || len(published.Data) != 1 {
				return fmt.Sprintf("published are %v", published.Data)
			}
			if published.Annotations["kubernetes.io/description"] == "" {
				return "the description is missing"
			}
			return ""
		})
		return published
	}
	first := current()

	changes := map[string]string{
		"other certificates": `{"data":{"ca.crt":"forged"}}`,
		"another key":        `{"data":{"more":"x"}}`,
		"no description":     `{"metadata":{"annotations":null}}`,
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			patch := client.RawPatch(types.MergePatchType, []byte(change))
			if err := testEnv.Client.Patch(t.Context(), current(), patch); err != nil {
				t.Fatal(err)
			}
			if got := current(); got.UID != first.UID {
				t.Errorf("the ConfigMap was replaced")
			}
		})
	}

	if err := testEnv.Client.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got := current(); got.UID == first.UID {
		t.Error("the ConfigMap is still the old one")
	}

	deleteNamespace(t, ns)
	becomesGone(t, ns)
}

// Agents cannot renew their Leases without the namespace.
func TestKeelsonsOwnNamespacesComeBack(t *testing.T) {
	start(t)
	name := keelsonv1.NodeLeaseNamespace
	create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	before := &corev1.Namespace{}
	if err := testEnv.Client.Get(t.Context(), types.NamespacedName{Name: name}, before); err != nil {
		t.Fatal(err)
	}

	deleteNamespace(t, name)

	env.Eventually(t, func() string {
		fresh := &corev1.Namespace{}
		if err := testEnv.Client.Get(t.Context(), types.NamespacedName{Name: name}, fresh); err != nil {
			return err.Error()
		}
		if fresh.UID == before.UID {
			return "the namespace is still the old one"
		}
		return ""
	})
}
