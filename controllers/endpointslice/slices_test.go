package endpointslice

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/controllers/internal/servicepods"
	"github.com/keelson-dev/keelson/test/builders"
)

// world is an API of one Service and its Pods, and the controller in front of it.
type world struct {
	client     client.WithWatch
	reconciler *Reconciler
	events     *events.FakeRecorder
	// writes counts what the controller has written; fail is the next answer to one.
	writes int
	fail   error
}

type indexes struct{ builder *fake.ClientBuilder }

func (x indexes) IndexField(_ context.Context, obj client.Object, field string, extract client.IndexerFunc) error {
	x.builder.WithIndex(obj, field, extract)
	return nil
}

var key = types.NamespacedName{Namespace: "default", Name: "web"}

func newWorld(t interface{ Fatal(...any) }, objects ...client.Object) *world {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{events: events.NewFakeRecorder(100)}
	b := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithIndex(&discoveryv1.EndpointSlice{}, serviceIndex, serviceOfOurs)
	if err := (&servicepods.Index{}).Register(context.Background(), indexes{b}); err != nil {
		t.Fatal(err)
	}
	count := func() error {
		w.writes++
		err := w.fail
		w.fail = nil
		return err
	}
	w.client = b.WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if _, ours := obj.(*discoveryv1.EndpointSlice); ours {
				if err := count(); err != nil {
					return err
				}
				obj.SetUID(types.UID(fmt.Sprint("slice", w.writes)))
			}
			return c.Create(ctx, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			if err := count(); err != nil {
				return err
			}
			return c.Patch(ctx, obj, patch, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			if _, ours := obj.(*discoveryv1.EndpointSlice); ours {
				if err := count(); err != nil {
					return err
				}
			}
			return c.Delete(ctx, obj, opts...)
		},
	}).Build()
	w.reconciler = NewReconciler(w.client, w.events)
	return w
}

func (w *world) reconcile() (writes int, err error) {
	before := w.writes
	_, err = w.reconciler.Reconcile(context.Background(), ctrl.Request{NamespacedName: key})
	return w.writes - before, err
}

// endpoints returns the state of each address in the slices; it is an error if one is
// there twice.
func (w *world) endpoints() (found map[string]string, largest int, err error) {
	var list discoveryv1.EndpointSliceList
	if err := w.client.List(context.Background(), &list); err != nil {
		return nil, 0, err
	}
	found = map[string]string{}
	for _, s := range list.Items {
		largest = max(largest, len(s.Endpoints))
		for _, e := range s.Endpoints {
			for _, address := range e.Addresses {
				if found[address] != "" {
					return nil, 0, fmt.Errorf("%s is in two places", address)
				}
				found[address] = fmt.Sprintf("%s ready=%t serving=%t terminating=%t", s.Status.Summary.Ports, *e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating)
			}
		}
	}
	return found, largest, nil
}

func webService() *keelsonv1.Service {
	s := builders.MakeService(key.Name).Namespace(key.Namespace).UID("web").Selector("app", "web").ClusterIP("10.254.0.9").NamedPort("http", 80, "http").Obj()
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	return s
}

func webPod(i int) *builders.PodBuilder {
	return builders.MakePod(fmt.Sprint("p", i)).Namespace(key.Namespace).UID(fmt.Sprint("p", i)).Label("app", "web").Node("n1").
		IP(fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)).Port("http", 8080, corev1.ProtocolTCP).Ready()
}

func node() *keelsonv1.Node {
	n := &keelsonv1.Node{}
	n.Name = "n1"
	return n
}

// Whatever happens to Pods, the slices hold each of them once, in the state it is in, at
// most 100 in one; a second pass writes nothing; and one Pod's change of state is one write.
func TestSlicesHoldEveryPodOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, webService(), node())
		want, made := map[string]string{}, 0
		check := func() (writes int) {
			writes, err := w.reconcile()
			if err != nil {
				t.Fatal(err)
			}
			got, largest, err := w.endpoints()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" || largest > maxEndpointsPerSlice {
				t.Fatalf("largest slice %d; endpoints (-want +got):\n%s", largest, diff)
			}
			if again, err := w.reconcile(); again != 0 || err != nil {
				t.Fatalf("a second pass writes %d times: %v", again, err)
			}
			return writes
		}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"add", "remove", "change"}).Draw(t, "step") {
			case "add":
				for range rapid.IntRange(1, 150).Draw(t, "more") {
					pod := webPod(made).Obj()
					made++
					if err := w.client.Create(context.Background(), pod); err != nil {
						t.Fatal(err)
					}
					want[pod.Status.PodIPs[0].IP] = "8080 ready=true serving=true terminating=false"
				}
				check()
			case "remove":
				for i := range rapid.IntRange(0, made).Draw(t, "fewer") {
					pod := webPod(i).Obj()
					if err := w.client.Delete(context.Background(), pod); client.IgnoreNotFound(err) != nil {
						t.Fatal(err)
					}
					delete(want, pod.Status.PodIPs[0].IP)
				}
				check()
			case "change":
				if len(want) == 0 {
					continue
				}
				check()
				address := rapid.SampledFrom(slices.Sorted(maps.Keys(want))).Draw(t, "victim")
				w.setReady(t, address, false)
				changed := want[address] != "8080 ready=false serving=false terminating=false"
				want[address] = "8080 ready=false serving=false terminating=false"
				if writes := check(); changed && writes != 1 {
					t.Fatalf("%d writes for the change of one Pod among %d", writes, len(want))
				}
			}
		}
	})
}

func (w *world) setReady(t *rapid.T, address string, ready bool) {
	var list keelsonv1.PodList
	if err := w.client.List(context.Background(), &list); err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if pod := &list.Items[i]; pod.Status.PodIPs[0].IP == address {
			pod.Status.Conditions[0].Status = map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}[ready]
			if err := w.client.Update(context.Background(), pod); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A write that fails in the middle is made good by the next pass. A conflict is no news for
// the user, anything else is.
func TestAWriteThatFails(t *testing.T) {
	gr := discoveryv1.GroupVersion.WithResource("endpointslices").GroupResource()
	for name, tc := range map[string]struct {
		err    error
		events int
	}{
		"somebody wrote in between": {apierrors.NewConflict(gr, "web-x", nil), 0},
		"the API server is away":    {apierrors.NewServiceUnavailable("away"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, webService(), node(), webPod(0).Obj())
			if _, err := w.reconcile(); err != nil {
				t.Fatal(err)
			}
			if err := w.client.Create(t.Context(), webPod(1).Obj()); err != nil {
				t.Fatal(err)
			}
			w.fail = tc.err
			if _, err := w.reconcile(); err == nil {
				t.Fatal("no error")
			}
			if got := len(w.events.Events); got != tc.events {
				t.Errorf("%d events, want %d", got, tc.events)
			}
			if _, err := w.reconcile(); err != nil {
				t.Fatal(err)
			}
			if got, _, err := w.endpoints(); err != nil || len(got) != 2 {
				t.Errorf("endpoints %v, %v", got, err)
			}
		})
	}
}

// What a Service says about the way of its traffic becomes hints of its endpoints.
func TestTrafficDistributionBecomesHints(t *testing.T) {
	zoned := node()
	zoned.Labels = map[string]string{corev1.LabelTopologyZone: "a"}
	for wish, want := range map[string]*upstreamdiscoveryv1.EndpointHints{
		"":               nil,
		"PreferClose":    {ForZones: []upstreamdiscoveryv1.ForZone{{Name: "a"}}},
		"PreferSameZone": {ForZones: []upstreamdiscoveryv1.ForZone{{Name: "a"}}},
		"PreferSameNode": {ForZones: []upstreamdiscoveryv1.ForZone{{Name: "a"}}, ForNodes: []upstreamdiscoveryv1.ForNode{{Name: "n1"}}},
	} {
		t.Run(wish, func(t *testing.T) {
			service := webService()
			if wish != "" {
				service.Spec.TrafficDistribution = new(wish)
			}
			w := newWorld(t, service, zoned.DeepCopy(), webPod(0).Obj())
			if _, err := w.reconcile(); err != nil {
				t.Fatal(err)
			}
			var list discoveryv1.EndpointSliceList
			if err := w.client.List(t.Context(), &list); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, list.Items[0].Endpoints[0].Hints); diff != "" {
				t.Errorf("hints (-want +got):\n%s", diff)
			}
		})
	}
}

// A Pod on a node that is not known yet waits for it, unless the Service wants Pods as they
// are.
func TestAPodWhoseNodeIsUnknown(t *testing.T) {
	w := newWorld(t, webService(), webPod(0).Obj())
	if _, err := w.reconcile(); err == nil {
		t.Error("no error that would bring the Service back")
	}
	if got, _, err := w.endpoints(); err != nil || len(got) != 0 {
		t.Errorf("endpoints %v, %v", got, err)
	}
	service := webService()
	service.Spec.PublishNotReadyAddresses = true
	w = newWorld(t, service, webPod(0).NotReady().Obj(), webPod(1).Ready().Deleting(time.Unix(100, 0)).Finalizer(keelsonv1.PodFinalizer).Obj())
	if _, err := w.reconcile(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"10.1.0.1": "8080 ready=true serving=false terminating=false", "10.1.0.2": "8080 ready=true serving=true terminating=true",
	}
	got, _, err := w.endpoints()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v; endpoints (-want +got):\n%s", err, diff)
	}
}
