package job

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// staleClient reads from a cache that stands still until it is told to catch up. As the
// manager's client, it reads its own writes: a write brings the cache of that kind, and
// of that kind only, up to it.
type staleClient struct {
	client.Client
	w *world
	// mu guards what several writes at once renew.
	mu   sync.Mutex
	job  *batchv1.Job
	pods []*keelsonv1.Pod
}

func staleReconciler(w *world) *Reconciler {
	c := &staleClient{Client: w.client, w: w}
	c.catchUp(true, true)
	r := NewReconciler(c, w.client, w.events, Options{Clock: w.clock})
	r.control.Admit = func(context.Context, *keelsonv1.Pod) error { return nil }
	return r
}

func (c *staleClient) catchUp(job, pods bool) {
	if job {
		c.job = c.w.job()
	}
	if pods {
		c.pods = c.w.pods()
	}
}

func (c *staleClient) wrote(obj client.Object, err error) error {
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, isPod := obj.(*keelsonv1.Pod); isPod {
		c.pods = c.w.pods()
	} else {
		c.job = c.w.job()
	}
	return nil
}

func (c *staleClient) Get(_ context.Context, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	c.job.DeepCopyInto(obj.(*batchv1.Job))
	return nil
}

func (c *staleClient) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	options := (&client.ListOptions{}).ApplyOptions(opts)
	wanted := options.FieldSelector.Requirements()[0].Value
	pods := list.(*keelsonv1.PodList)
	for _, pod := range c.pods {
		if ref := metav1.GetControllerOfNoCopy(pod); ref != nil && string(ref.UID) == wanted {
			pods.Items = append(pods.Items, *pod.DeepCopy())
		}
	}
	return nil
}

func (c *staleClient) Create(ctx context.Context, obj client.Object, opts ...client.CreateOption) error {
	return c.wrote(obj, c.Client.Create(ctx, obj, opts...))
}

func (c *staleClient) Delete(ctx context.Context, obj client.Object, opts ...client.DeleteOption) error {
	return c.wrote(obj, c.Client.Delete(ctx, obj, opts...))
}

func (c *staleClient) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	return c.wrote(obj, c.Client.Patch(ctx, obj, patch, opts...))
}

func (c *staleClient) Status() client.SubResourceWriter {
	return staleStatus{c.Client.Status(), c}
}

type staleStatus struct {
	client.SubResourceWriter
	c *staleClient
}

func (s staleStatus) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
	return s.c.wrote(obj, s.SubResourceWriter.Patch(ctx, obj, patch, opts...))
}
