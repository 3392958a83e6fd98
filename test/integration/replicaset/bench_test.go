package replicaset

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

// BenchmarkThousandPods measures how fast an owner of 1,000 Pods gets them, and loses
// them, without nodes:
//
//	go test ./test/integration/replicaset -run '^$' -bench ThousandPods -benchtime 3x
func BenchmarkThousandPods(b *testing.B) {
	const count = 1000
	owners := map[string]func(ns string) client.Object{
		"ReplicationController": func(ns string) client.Object {
			return builders.MakeReplicationController("many", count).Namespace(ns).Obj()
		},
		"ReplicaSet": func(ns string) client.Object {
			return builders.MakeReplicaSet("many", count).Namespace(ns).Obj()
		},
	}
	for name, build := range owners {
		b.Run(name, func(b *testing.B) {
			testEnv.StartManager(b, addControllers)
			var up, down time.Duration
			for b.Loop() {
				owner := build(testEnv.Namespace(b))
				up += took(b, owner.GetNamespace(), count, func() error { return testEnv.Client.Create(b.Context(), owner) })
				down += took(b, owner.GetNamespace(), 0, func() error { return scaleToZero(b, owner) })
			}
			b.ReportMetric(float64(b.N)*count/up.Seconds(), "created/s")
			b.ReportMetric(float64(b.N)*count/down.Seconds(), "deleted/s")
		})
	}
}

// took is the time from start until there are count Pods. It asks for their number, which
// costs the API server little, since a watch of it all competes with what is measured.
func took(b *testing.B, ns string, count int, start func() error) time.Duration {
	b.Helper()
	began := time.Now()
	if err := start(); err != nil {
		b.Fatal(err)
	}
	for {
		pods := &metav1.PartialObjectMetadataList{}
		pods.SetGroupVersionKind(keelsonv1.GroupVersion.WithKind("PodList"))
		if err := testEnv.Client.List(b.Context(), pods, client.InNamespace(ns), client.Limit(1)); err != nil {
			b.Fatal(err)
		}
		there := len(pods.Items)
		if rest := pods.RemainingItemCount; rest != nil {
			there += int(*rest)
		}
		if there == count {
			return time.Since(began)
		}
		time.Sleep(env.PollInterval)
	}
}

func scaleToZero(b *testing.B, owner client.Object) error {
	b.Helper()
	fresh, ok := owner.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is no object", owner)
	}
	if err := testEnv.Client.Get(b.Context(), client.ObjectKeyFromObject(owner), fresh); err != nil {
		return err
	}
	before, ok := fresh.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is no object", owner)
	}
	switch o := fresh.(type) {
	case *keelsonv1.ReplicationController:
		o.Spec.Replicas = new(int32(0))
	case *appsv1.ReplicaSet:
		o.Spec.Replicas = new(int32(0))
	}
	return testEnv.Client.Patch(b.Context(), fresh, client.MergeFrom(before))
}
