package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/test/builders"
)

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// errKilled is the answer to every call after the process was killed.
var errKilled = errors.New("the process was killed")

// world is an API server in memory with one Job, and the reconciler that looks after it.
type world struct {
	t      tester
	client client.WithWatch
	clock  *clocktesting.FakePassiveClock
	events *events.FakeRecorder
	r      *Reconciler
	// mu guards the rest: the reconciler writes in parallel.
	mu sync.Mutex
	// writesLeft is how many writes the process does before it is killed; negative
	// for ever.
	writesLeft int
	// made counts the Pods ever made, for their UIDs and names.
	made int
	key  types.NamespacedName
}

type indexer func(ctx context.Context, obj client.Object, field string, extract client.IndexerFunc) error

func (f indexer) IndexField(ctx context.Context, obj client.Object, field string, extract client.IndexerFunc) error {
	return f(ctx, obj, field, extract)
}

func newWorld(t tester, job *batchv1.Job, pods ...*keelsonv1.Pod) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, keelsonv1.AddToScheme, batchv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatalf("scheme: %v", err)
		}
	}
	w := &world{
		t: t, clock: clocktesting.NewFakePassiveClock(time.Unix(1000, 0)), events: events.NewFakeRecorder(10000),
		writesLeft: -1, key: client.ObjectKeyFromObject(job),
	}
	if job.UID == "" {
		job.UID = "job"
	}
	job.CreationTimestamp.Time = w.clock.Now()
	account := &corev1.ServiceAccount{}
	account.Namespace, account.Name = job.Namespace, "default"
	namespace := &corev1.Namespace{}
	namespace.Name = job.Namespace
	b := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&batchv1.Job{}, &keelsonv1.Pod{}).WithObjects(namespace, account, job)
	err := podcontrol.IndexPods(context.Background(), indexer(func(_ context.Context, obj client.Object, field string, extract client.IndexerFunc) error {
		b.WithIndex(obj, field, extract)
		return nil
	}), jobs.Kind.GroupKind())
	if err != nil {
		t.Fatalf("index: %v", err)
	}
	for _, pod := range pods {
		b.WithObjects(pod)
	}
	w.client = b.WithInterceptorFuncs(w.interceptors()).Build()
	w.restart()
	return w
}

// restart starts the process anew: it remembers nothing.
func (w *world) restart() {
	w.r = NewReconciler(w.client, w.client, w.events, Options{Clock: w.clock})
	w.r.control.Admit = func(context.Context, *keelsonv1.Pod) error { return nil }
	w.writesLeft = -1
}

// write says whether the process still lives to do one more write.
func (w *world) write() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writesLeft == 0 {
		return errKilled
	}
	if w.writesLeft > 0 {
		w.writesLeft--
	}
	return nil
}

func (w *world) interceptors() interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if err := w.write(); err != nil {
				return err
			}
			if pod, isPod := obj.(*keelsonv1.Pod); isPod && pod.UID == "" {
				w.mu.Lock()
				w.made++
				made := w.made
				w.mu.Unlock()
				pod.UID = types.UID(fmt.Sprintf("uid-%03d", made))
				pod.Name = fmt.Sprintf("%s%05d", pod.GenerateName, made)
				pod.CreationTimestamp.Time = w.clock.Now()
			}
			return c.Create(ctx, obj, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			if err := w.write(); err != nil {
				return err
			}
			return c.Delete(ctx, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			if err := w.write(); err != nil {
				return err
			}
			return c.Patch(ctx, obj, patch, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			if err := w.write(); err != nil {
				return err
			}
			return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
		},
	}
}

func (w *world) reconcile() (time.Duration, error) {
	result, err := w.r.Reconcile(context.Background(), ctrl.Request{NamespacedName: w.key})
	return result.RequeueAfter, err
}

// settle reconciles until nothing is written any more, and returns the last wait.
func (w *world) settle() time.Duration {
	w.t.Helper()
	for range 50 {
		before := w.fingerprint()
		wait, err := w.reconcile()
		if err != nil {
			w.t.Fatalf("reconcile: %v", err)
		}
		if w.fingerprint() == before {
			return wait
		}
	}
	w.t.Fatalf("the Job does not settle: %+v", w.job().Status)
	return 0
}

func (w *world) fingerprint() string {
	var b strings.Builder
	b.WriteString(w.job().ResourceVersion)
	for _, pod := range w.pods() {
		b.WriteString(" " + pod.Name + "/" + pod.ResourceVersion)
	}
	return b.String()
}

func (w *world) job() *batchv1.Job {
	w.t.Helper()
	job := &batchv1.Job{}
	if err := w.client.Get(context.Background(), w.key, job); err != nil {
		w.t.Fatalf("get the Job: %v", err)
	}
	return job
}

func (w *world) pods() []*keelsonv1.Pod {
	w.t.Helper()
	var list keelsonv1.PodList
	if err := w.client.List(context.Background(), &list); err != nil {
		w.t.Fatalf("list Pods: %v", err)
	}
	pods := make([]*keelsonv1.Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = &list.Items[i]
	}
	return pods
}

func (w *world) active() []*keelsonv1.Pod {
	w.t.Helper()
	return observeActive(w.pods())
}

func observeActive(pods []*keelsonv1.Pod) (active []*keelsonv1.Pod) {
	for _, pod := range pods {
		if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			active = append(active, pod)
		}
	}
	return active
}

// end reports that pod has ended now, as its node's agent would.
func (w *world) end(pod *keelsonv1.Pod, phase corev1.PodPhase, exitCode int32) {
	w.t.Helper()
	pod.Status.Phase = phase
	state := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: exitCode}}
	state.Terminated.FinishedAt.Time = w.clock.Now()
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: state}}
	if err := w.client.SubResource("status").Update(context.Background(), pod); err != nil {
		w.t.Fatalf("end Pod %s: %v", pod.Name, err)
	}
}

// edit changes the Job as a user would.
func (w *world) edit(how func(*upstreambatchv1.JobSpec)) {
	w.t.Helper()
	job := w.job()
	how(&job.Spec)
	if err := w.client.Update(context.Background(), job); err != nil {
		w.t.Fatalf("edit the Job: %v", err)
	}
}

func (w *world) pass(d time.Duration) { w.clock.SetTime(w.clock.Now().Add(d)) }

// said returns the events recorded since the last call.
func (w *world) said() []string {
	var all []string
	for {
		select {
		case e := <-w.events.Events:
			all = append(all, e)
		default:
			return all
		}
	}
}

func makeJob(completions, parallelism int32) *builders.JobBuilder {
	return builders.MakeJob("pi").UID("job").Completions(completions).Parallelism(parallelism)
}

var _ tester = (*testing.T)(nil)
