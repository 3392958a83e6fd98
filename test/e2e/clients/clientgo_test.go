package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/retry"
)

var (
	podsResource        = corev1.SchemeGroupVersion.WithResource("pods")
	controllersResource = corev1.SchemeGroupVersion.WithResource("replicationcontrollers")
)

// contentTypes are those that client-go may ask for.
var contentTypes = map[string]rest.ContentConfig{
	"JSON":     {ContentType: runtime.ContentTypeJSON, AcceptContentTypes: runtime.ContentTypeJSON},
	"protobuf": {ContentType: runtime.ContentTypeProtobuf, AcceptContentTypes: runtime.ContentTypeProtobuf},
}

// TestInformers: a shared informer sees each change, and its store ends as the API is.
func TestInformers(t *testing.T) {
	for name, content := range contentTypes {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			cfg := credentials(t)
			cfg.ContentConfig = content
			c, err := kubernetes.NewForConfig(cfg)
			if err != nil {
				t.Fatal(err)
			}
			// One is there before the informer starts: it comes with the first list.
			if _, err := c.CoreV1().Pods(ns).Create(t.Context(), shellPod("early", "sleep 1000"), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			factory := informers.NewSharedInformerFactoryWithOptions(c, 0, informers.WithNamespace(ns))
			pods, services, controllers, nodes := factory.Core().V1().Pods(), factory.Core().V1().Services(),
				factory.Core().V1().ReplicationControllers(), factory.Core().V1().Nodes()
			seen := record(t, pods.Informer())
			for _, informer := range []cache.SharedIndexInformer{services.Informer(), controllers.Informer(), nodes.Informer()} {
				if err := informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) { t.Errorf("watch: %v", err) }); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			factory.Start(ctx.Done())
			defer factory.Shutdown()
			defer cancel()
			for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
				if !ok {
					t.Fatalf("the informer of %s did not sync", kind)
				}
			}
			if found, err := nodes.Lister().List(labels.Everything()); err != nil || len(found) == 0 || found[0].Status.NodeInfo.KubeletVersion == "" {
				t.Errorf("nodes: %v, %v", found, err)
			}

			if _, err := c.CoreV1().Services(ns).Create(t.Context(), &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "web"},
				Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}, Selector: map[string]string{"app": "web"}},
			}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.CoreV1().ReplicationControllers(ns).Create(t.Context(), webController("web", 2), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "what the listers have", func() error {
				svc, err := services.Lister().Services(ns).Get("web")
				if err != nil {
					return err
				}
				if svc.Spec.ClusterIP == "" {
					return errors.New("the Service has no address")
				}
				rc, err := controllers.Lister().ReplicationControllers(ns).Get("web")
				if err != nil {
					return err
				}
				if rc.Status.ReadyReplicas != 2 {
					return fmt.Errorf("%d replicas are ready", rc.Status.ReadyReplicas)
				}
				return isRunning(pods.Lister().Pods(ns).Get("early"))
			})
			if err := c.CoreV1().Pods(ns).Delete(t.Context(), "early", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the deletion", func() error { return contains(seen(), "add early", "update early", "delete early", "add web-") })
			storeIsTheAPI(t, c, ns, pods.Informer())
		})
	}
}

// record writes down what an informer reports.
func record(t *testing.T, informer cache.SharedIndexInformer) (seen func() string) {
	t.Helper()
	events := make(chan string, 1000)
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { events <- "add " + o.(*corev1.Pod).Name },
		UpdateFunc: func(_, o any) { events <- "update " + o.(*corev1.Pod).Name },
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			events <- "delete " + o.(*corev1.Pod).Name
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) { t.Errorf("watch: %v", err) }); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	return func() string {
		for {
			select {
			case event := <-events:
				all.WriteString(event + "\n")
			default:
				return all.String()
			}
		}
	}
}

// storeIsTheAPI compares an informer's store with a list.
func storeIsTheAPI(t *testing.T, c kubernetes.Interface, ns string, informer cache.SharedIndexInformer) {
	t.Helper()
	eventually(t, "the store to be what the API has", func() error {
		list, err := c.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		want := map[string]*corev1.Pod{}
		for i := range list.Items {
			want[list.Items[i].Name] = &list.Items[i]
		}
		got := map[string]*corev1.Pod{}
		for _, o := range informer.GetStore().List() {
			pod := o.(*corev1.Pod).DeepCopy()
			pod.TypeMeta = metav1.TypeMeta{} // a list has none, an event may
			got[pod.Name] = pod
		}
		for _, pod := range want {
			pod.TypeMeta = metav1.TypeMeta{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("(-list +store):\n%s", diff)
		}
		return nil
	})
}

// TestLeaderElection: one of two leads, and the other one takes over.
func TestLeaderElection(t *testing.T) {
	ns := namespace(t)
	c := clientset(t)
	leads := make(chan string, 2)
	candidate := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Namespace: ns, Name: "leader"}, Client: c.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: name},
			},
			LeaseDuration: 10 * time.Second, RenewDeadline: 8 * time.Second, RetryPeriod: 200 * time.Millisecond, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { leads <- name },
				OnStoppedLeading: func() {},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); elector.Run(ctx) }()
		stop = func() { cancel(); <-done }
		t.Cleanup(stop)
		return stop
	}
	stops := map[string]func(){"a": candidate("a"), "b": candidate("b")}
	first := receive(t, leads)
	stops[first]()
	if second := receive(t, leads); second == first {
		t.Errorf("%s leads again", second)
	}
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case got := <-from:
		return got
	case <-time.After(patience):
		t.Fatalf("nothing came in %s", patience)
		panic("not reached")
	}
}

// TestDynamicClient: every verb on an unstructured Pod, whose kind and version are what
// the client wrote.
func TestDynamicClient(t *testing.T) {
	ns := namespace(t)
	c, err := dynamic.NewForConfig(credentials(t))
	if err != nil {
		t.Fatal(err)
	}
	pods := c.Resource(podsResource).Namespace(ns)
	events, err := pods.Watch(t.Context(), metav1.ListOptions{LabelSelector: "app=dynamic"})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()

	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(shellPod("dynamic", "sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	pod := &unstructured.Unstructured{Object: fields}
	pod.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	made, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	isPod(t, "created", made)
	if event := receive(t, events.ResultChan()); event.Type != watch.Added {
		t.Errorf("first event: %v", event)
	} else {
		isPod(t, "watched", event.Object.(*unstructured.Unstructured))
	}
	patched, err := pods.Patch(t.Context(), "dynamic", types.StrategicMergePatchType, []byte(`{"metadata":{"annotations":{"a":"b"}}}`), metav1.PatchOptions{})
	if err != nil || patched.GetAnnotations()["a"] != "b" {
		t.Fatalf("patch: %v, %v", patched, err)
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		fresh, err := pods.Get(t.Context(), "dynamic", metav1.GetOptions{})
		if err != nil {
			return err
		}
		fresh.SetLabels(map[string]string{"app": "dynamic", "more": "x"})
		_, err = pods.Update(t.Context(), fresh, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "more=x", FieldSelector: "metadata.name=dynamic"})
	if err != nil || len(list.Items) != 1 || list.GetKind() != "PodList" || list.GetAPIVersion() != "v1" {
		t.Fatalf("list: %v, %v", list, err)
	}
	isPod(t, "listed", &list.Items[0])
	if err := pods.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "more=x"}); err != nil {
		t.Fatal(err)
	}
	for event := receive(t, events.ResultChan()); event.Type != watch.Deleted; event = receive(t, events.ResultChan()) {
		if event.Type != watch.Modified {
			t.Fatalf("event %v", event)
		}
	}
	_, err = pods.Get(t.Context(), "dynamic", metav1.GetOptions{})
	if want := `pods "dynamic" not found`; !apierrors.IsNotFound(err) || err.Error() != want {
		t.Errorf("get: %v, want %s", err, want)
	}
}

func isPod(t *testing.T, how string, o *unstructured.Unstructured) {
	t.Helper()
	if o.GroupVersionKind() != corev1.SchemeGroupVersion.WithKind("Pod") {
		t.Errorf("%s: a %s", how, o.GroupVersionKind())
	}
}

// TestMetadataClient: only metadata of objects, listed and watched.
func TestMetadataClient(t *testing.T) {
	ns := namespace(t)
	cfg := metadata.ConfigFor(credentials(t))
	c, err := metadata.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	pods := c.Resource(podsResource).Namespace(ns)
	before, err := pods.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	events, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: before.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	made, err := clientset(t).CoreV1().Pods(ns).Create(t.Context(), shellPod("meta", "sleep 1000"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	event := receive(t, events.ResultChan())
	seen, ok := event.Object.(*metav1.PartialObjectMetadata)
	if !ok || event.Type != watch.Added || seen.UID != made.UID {
		t.Errorf("event %s of %#v, want %s", event.Type, event.Object, made.UID)
	}
	got, err := pods.Get(t.Context(), "meta", metav1.GetOptions{})
	if err != nil || got.UID != made.UID || got.Labels["app"] != "meta" {
		t.Errorf("got %v, %v", got, err)
	}
	if err := pods.Delete(t.Context(), "meta", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Pod to be gone", func() error {
		left, err := pods.List(t.Context(), metav1.ListOptions{})
		if err == nil && len(left.Items) > 0 {
			err = fmt.Errorf("%d left", len(left.Items))
		}
		return err
	})
}

// TestScaleClient finds the kind of a scale through discovery, as autoscalers do.
func TestScaleClient(t *testing.T) {
	ns := namespace(t)
	c := clientset(t)
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.Discovery()))
	scales, err := scale.NewForConfig(credentials(t), mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(c.Discovery()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().ReplicationControllers(ns).Create(t.Context(), webController("web", 1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	resource := schema.GroupResource{Resource: "replicationcontrollers"}
	replicas := func(want int32) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d replicas", want), func() error {
			got, err := scales.Scales(ns).Get(t.Context(), resource, "web", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got.Status.Replicas != want || got.Spec.Replicas != want || got.Status.Selector != "app=web" {
				return fmt.Errorf("scale is %+v", got)
			}
			return nil
		})
	}
	replicas(1)
	current, err := scales.Scales(ns).Get(t.Context(), resource, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	current.Spec.Replicas = 3
	if _, err := scales.Scales(ns).Update(t.Context(), resource, current, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	replicas(3)
	if _, err := scales.Scales(ns).Patch(t.Context(), controllersResource, "web", types.MergePatchType, []byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	replicas(0)
	typed, err := c.CoreV1().ReplicationControllers(ns).GetScale(t.Context(), "web", metav1.GetOptions{})
	if err != nil || typed.Kind != "" && typed.GroupVersionKind() != autoscalingv1.SchemeGroupVersion.WithKind("Scale") {
		t.Errorf("typed scale: %v, %v", typed, err)
	}
}

// TestServerSideApply: fields have managers, and two of them conflict.
func TestServerSideApply(t *testing.T) {
	ns := namespace(t)
	pods := clientset(t).CoreV1().Pods(ns)
	apply := func(manager, image string, force bool) (*corev1.Pod, error) {
		return pods.Apply(t.Context(), corev1apply.Pod("applied", ns).WithSpec(corev1apply.PodSpec().
			WithContainers(corev1apply.Container().WithName("main").WithImage(image).WithCommand("sleep", "1000"))),
			metav1.ApplyOptions{FieldManager: manager, Force: force})
	}
	made, err := apply("one", setup.busybox, false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = apply("two", setup.testserver, false)
	if !apierrors.IsConflict(err) {
		t.Fatalf("the second manager: %v, want a conflict", err)
	}
	if err := contains(err.Error(), `conflict with "one"`, `.spec.containers[name="main"].image`); err != nil {
		t.Error(err)
	}
	forced, err := apply("two", setup.testserver, true)
	if err != nil || forced.UID != made.UID || forced.Spec.Containers[0].Image != setup.testserver {
		t.Fatalf("forced: %v, %v", forced, err)
	}
	extracted, err := corev1apply.ExtractPod(forced, "two")
	if err != nil || extracted.Spec == nil || len(extracted.Spec.Containers) != 1 || *extracted.Spec.Containers[0].Image != setup.testserver {
		t.Errorf("fields of two: %+v, %v", extracted, err)
	}
	for _, entry := range forced.ManagedFields {
		if entry.APIVersion != "v1" {
			t.Errorf("%s manages fields of %s", entry.Manager, entry.APIVersion)
		}
	}
}

// TestStreams: exec both ways, and logs that follow.
func TestStreams(t *testing.T) {
	ns := namespace(t)
	c := clientset(t)
	if _, err := c.CoreV1().Pods(ns).Create(t.Context(), shellPod("talks", "echo begin; while [ ! -e /tmp/end ]; do sleep 0.1; done; echo end"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Pod to run", func() error {
		return isRunning(c.CoreV1().Pods(ns).Get(t.Context(), "talks", metav1.GetOptions{}))
	})
	for name, executor := range executors(t, c, ns, "talks", "sh", "-c", "cat; echo complaint >&2; exit 7") {
		t.Run("exec over "+name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("héllo\n"), Stdout: &stdout, Stderr: &stderr})
			var exit interface{ ExitStatus() int }
			if !errors.As(err, &exit) || exit.ExitStatus() != 7 {
				t.Errorf("error %v, want exit status 7", err)
			}
			if stdout.String() != "héllo\n" || stderr.String() != "complaint\n" {
				t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
			}
		})
	}
	t.Run("logs that follow", func(t *testing.T) {
		stream, err := c.CoreV1().Pods(ns).GetLogs("talks", &corev1.PodLogOptions{Follow: true}).Stream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		first := make([]byte, len("begin\n"))
		if _, err := io.ReadFull(stream, first); err != nil || string(first) != "begin\n" {
			t.Fatalf("log begins with %q, %v", first, err)
		}
		for _, executor := range executors(t, c, ns, "talks", "touch", "/tmp/end") {
			if err := executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
				t.Fatal(err)
			}
			break
		}
		rest, err := io.ReadAll(stream)
		if err != nil || string(rest) != "end\n" {
			t.Errorf("the log goes on with %q, %v", rest, err)
		}
	})
}

// executors are client-go's two ways to run a command.
func executors(t *testing.T, c *kubernetes.Clientset, ns, pod string, command ...string) map[string]remotecommand.Executor {
	t.Helper()
	url := c.CoreV1().RESTClient().Post().Resource("pods").Namespace(ns).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: command, Stdin: slices.Contains(command, "sh"), Stdout: true, Stderr: slices.Contains(command, "sh")}, scheme.ParameterCodec).URL()
	websocket, err := remotecommand.NewWebSocketExecutor(credentials(t), "GET", url.String())
	if err != nil {
		t.Fatal(err)
	}
	spdy, err := remotecommand.NewSPDYExecutor(credentials(t), "POST", url)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]remotecommand.Executor{"websocket": websocket, "SPDY": spdy}
}
