package gc_test

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/keelson-dev/keelson/test/env"
)

const gadgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.test.keelson.dev}
spec:
  group: test.keelson.dev
  scope: Namespaced
  names: {kind: Gadget, plural: gadgets}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

func gadget(ns, name string, owners ...metav1.OwnerReference) *unstructured.Unstructured {
	g := &unstructured.Unstructured{}
	g.SetAPIVersion("test.keelson.dev/v1")
	g.SetKind("Gadget")
	g.SetNamespace(ns)
	g.SetName(name)
	g.SetOwnerReferences(owners)
	return g
}

// A kind that appears while the collector runs is followed, as owner and as
// dependent.
func TestKindsThatComeLaterAreCollected(t *testing.T) {
	startCollector(t)
	ns := testEnv.Namespace(t)
	// Its end shows that the collector works before the kind is there.
	owner := create(t, configMap(ns, "before"))
	dependent := create(t, secret(ns, "before", byConfigMap(owner, false)))
	remove(t, owner, metav1.DeletePropagationBackground)
	becomes(t, "gone", dependent)

	crd := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(gadgets), &crd.Object); err != nil {
		t.Fatal(err)
	}
	create(t, crd)
	t.Cleanup(func() {
		if err := testEnv.Client.Delete(context.WithoutCancel(t.Context()), crd); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	settings := create(t, configMap(ns, "settings"))
	middle := gadget(ns, "middle", byConfigMap(settings, true))
	env.Eventually(t, func() string {
		if err := testEnv.Client.Create(t.Context(), middle); err != nil {
			return err.Error() // not served yet
		}
		return ""
	})
	last := create(t, secret(ns, "last", ownedBy(middle, "test.keelson.dev/v1", "Gadget", true)))

	remove(t, settings, metav1.DeletePropagationForeground)
	becomes(t, "gone", settings, middle, last)

	orphaned := create(t, gadget(ns, "orphaned"))
	kept := create(t, gadget(ns, "kept", ownedBy(orphaned, "test.keelson.dev/v1", "Gadget", true)))
	remove(t, orphaned, metav1.DeletePropagationOrphan)
	becomes(t, "gone", orphaned)
	stays(t, "there", kept)
	if err := testEnv.Client.Get(t.Context(), types.NamespacedName{Namespace: ns, Name: "kept"}, kept); err != nil {
		t.Fatal(err)
	}
	if owners := kept.GetOwnerReferences(); len(owners) > 0 {
		t.Errorf("the orphan still has owners %v", owners)
	}
}
