package podcerts

import (
	"context"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	// keep is how long a request stays for people to look at, as upstream's cleaner
	// lets it; sweepInterval is how often it is asked which are older.
	keep          = 15 * time.Minute
	sweepInterval = 5 * time.Minute
)

// watch holds the requests of this node.
type watch struct {
	requests toolscache.Store
	synced   toolscache.DoneChecker
	stop     context.CancelFunc

	mu sync.Mutex
	// changed is closed and replaced with each change.
	changed chan struct{}
}

// begin starts to watch and to sweep.
func (m *Manager) begin() *watch {
	ctx, stop := context.WithCancel(m.ctx)
	w := &watch{stop: stop, changed: make(chan struct{})}
	tell := func(object any) {
		w.tell()
		if request := requestOf(object); request != nil {
			m.Changed(request.Spec.PodUID)
		}
	}
	store, controller := toolscache.NewInformerWithOptions(toolscache.InformerOptions{
		ListerWatcher: m.API.Requests(), ObjectType: &certificatesv1.PodCertificateRequest{},
		Transform: withoutManagedFields,
		Handler: toolscache.ResourceEventHandlerFuncs{
			AddFunc: tell, UpdateFunc: func(_, now any) { tell(now) }, DeleteFunc: tell,
		},
	})
	w.requests, w.synced = store, controller.HasSyncedChecker()
	m.group.Go(func() { controller.RunWithContext(ctx) })
	m.group.Go(func() { m.sweepLoop(ctx, w) })
	return w
}

func withoutManagedFields(object any) (any, error) {
	if o, ok := object.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	return object, nil
}

func requestOf(object any) *certificatesv1.PodCertificateRequest {
	if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	request, ok := object.(*certificatesv1.PodCertificateRequest)
	if !ok {
		return nil
	}
	return request
}

func (w *watch) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

// news is closed with the next change.
func (w *watch) news() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// find returns nil when the request cannot be seen.
func (w *watch) find(namespace, name string) *certificatesv1.PodCertificateRequest {
	object, found, err := w.requests.GetByKey(namespace + "/" + name)
	if err != nil || !found {
		return nil
	}
	return requestOf(object)
}

// sweepLoop deletes requests that nobody needs any more. A stock control plane has a
// controller that does the same.
func (m *Manager) sweepLoop(ctx context.Context, w *watch) {
	ticker := m.Clock.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		for _, object := range w.requests.List() {
			request := requestOf(object)
			if request == nil || m.Clock.Since(request.CreationTimestamp.Time) < keep {
				continue
			}
			if err := m.API.Delete(ctx, request); err != nil && ctx.Err() == nil {
				klog.FromContext(ctx).Error(err, "Cannot delete an old request for a certificate, will retry", "request", klog.KObj(request))
			}
		}
	}
}
