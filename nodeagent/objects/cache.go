package objects

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/podrefs"
)

// patience is how long a read waits for an object's first answer. The right to read it
// is granted after the Pod was bound, so the first answers may be refusals.
const patience = 5 * time.Second

// kind is one of the two kinds that are read; the word is upstream's in "not found".
type kind string

const (
	configMap kind = "configmap"
	secret    kind = "secret"
)

type key struct {
	kind            kind
	namespace, name string
}

// Cache is a Reader that watches each object while a Pod names it.
type Cache struct {
	source  source
	clock   clock.WithDelayedExecution
	changed func(types.UID)
	//nolint:containedctx // the watches live as long as the Pods, not as one call
	ctx context.Context

	mu      sync.Mutex
	entries map[key]*entry
	pods    map[types.UID][]key
	group   sync.WaitGroup
}

// entry is one watched object.
type entry struct {
	users map[types.UID]bool
	// stop ends the watch, nil before it has begun.
	stop context.CancelFunc
	// answered says that the API server has said what the object is; object is nil when
	// there is none. Before that err is why not.
	answered bool
	object   client.Object
	err      error
	// news is closed and replaced with each answer.
	news chan struct{}
}

// NewCache returns an empty Cache whose watches end with ctx. changed is called, from
// any goroutine, with the UID of each Pod that names an object that has changed.
func NewCache(ctx context.Context, c client.WithWatch, clock clock.WithDelayedExecution, changed func(types.UID)) *Cache {
	return newCache(ctx, apiSource{c}, clock, changed)
}

func newCache(ctx context.Context, s source, clock clock.WithDelayedExecution, changed func(types.UID)) *Cache {
	return &Cache{source: s, clock: clock, changed: changed, ctx: ctx, entries: map[key]*entry{}, pods: map[types.UID][]key{}}
}

// Wait returns when no watch runs; call it after the context has ended.
func (c *Cache) Wait() { c.group.Wait() }

// Track watches what pod names, and ends watches that nobody needs any more.
func (c *Cache) Track(pod *keelsonv1.Pod) {
	refs := podrefs.Of(&pod.Spec)
	var keys []key
	for _, name := range refs.ConfigMaps {
		keys = append(keys, key{configMap, pod.Namespace, name})
	}
	for _, name := range refs.Secrets {
		keys = append(keys, key{secret, pod.Namespace, name})
	}
	c.set(pod.UID, keys)
}

// Forget ends the watches that only the Pod needed.
func (c *Cache) Forget(uid types.UID) { c.set(uid, nil) }

func (c *Cache) set(uid types.UID, keys []key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.pods[uid]
	for _, k := range keys {
		c.useLocked(uid, k)
	}
	wanted := make(map[key]bool, len(keys))
	for _, k := range keys {
		wanted[k] = true
	}
	for _, k := range before {
		if !wanted[k] {
			c.dropLocked(uid, k)
		}
	}
	if len(keys) == 0 {
		delete(c.pods, uid)
	} else {
		c.pods[uid] = keys
	}
}

// useLocked begins a watch where there is none. It lives as long as Pods need it.
func (c *Cache) useLocked(uid types.UID, k key) {
	e := c.entries[k]
	if e == nil {
		e = &entry{users: map[types.UID]bool{}, news: make(chan struct{})}
		c.entries[k] = e
		c.group.Go(func() { c.run(k, e) })
	}
	e.users[uid] = true
}

func (c *Cache) dropLocked(uid types.UID, k key) {
	e := c.entries[k]
	if e == nil {
		return
	}
	delete(e.users, uid)
	if len(e.users) == 0 {
		delete(c.entries, k)
		if e.stop != nil {
			e.stop()
		}
	}
}

// run follows one object as long as Pods need it.
func (c *Cache) run(k key, e *entry) {
	ctx, stop := context.WithCancel(c.ctx)
	defer stop()
	c.mu.Lock()
	e.stop = stop
	needed := len(e.users) > 0
	c.mu.Unlock()
	if needed {
		c.follow(ctx, k, e)
	}
}

// ConfigMap implements Reader.
func (c *Cache) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	object, err := c.get(ctx, key{configMap, namespace, name})
	if err != nil {
		return nil, err
	}
	found, ok := object.(*corev1.ConfigMap)
	if !ok {
		return nil, fmt.Errorf("reading configmap %s/%s: got a %T", namespace, name, object)
	}
	return found, nil
}

// Secret implements Reader.
func (c *Cache) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	object, err := c.get(ctx, key{secret, namespace, name})
	if err != nil {
		return nil, err
	}
	found, ok := object.(*corev1.Secret)
	if !ok {
		return nil, fmt.Errorf("reading secret %s/%s: got a %T", namespace, name, object)
	}
	return found, nil
}

// get returns what the watch says, and waits a moment for its first answer.
func (c *Cache) get(ctx context.Context, k key) (client.Object, error) {
	timeout := c.clock.NewTimer(patience)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		e := c.entries[k]
		if e == nil {
			c.mu.Unlock()
			// As upstream's kubelet, whose words these are.
			return nil, fmt.Errorf("object %q/%q not registered", k.namespace, k.name)
		}
		answered, object, news := e.answered, e.object, e.news
		c.mu.Unlock()
		if answered && object == nil {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: string(k.kind)}, k.name)
		}
		if answered {
			return object, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-news:
		case <-timeout.C():
			return nil, c.whyNot(k, e)
		}
	}
}

// whyNot says why there is no answer yet.
func (c *Cache) whyNot(k key, e *entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	return fmt.Errorf("failed to sync %s cache: timed out waiting for the condition", k.kind)
}

// answer records what the API server says of an object, nil when there is none.
func (c *Cache) answer(k key, e *entry, object client.Object) {
	if object != nil {
		object.SetManagedFields(nil)
	}
	c.mu.Lock()
	first := !e.answered
	same := !first && version(e.object) == version(object)
	e.answered, e.object, e.err = true, object, nil
	users := make([]types.UID, 0, len(e.users))
	for uid := range e.users {
		users = append(users, uid)
	}
	close(e.news)
	e.news = make(chan struct{})
	c.mu.Unlock()
	if same {
		return
	}
	klog.FromContext(c.ctx).V(4).Info("An object of Pods has changed", "kind", k.kind, "object", klog.KRef(k.namespace, k.name), "exists", object != nil, "pods", len(users))
	for _, uid := range users {
		c.changed(uid)
	}
}

// version tells states of an object apart.
func version(object client.Object) string {
	if object == nil {
		return ""
	}
	return string(object.GetUID()) + "/" + object.GetResourceVersion()
}

// failed records why there is no answer yet. What was known before stays known.
func (c *Cache) failed(e *entry, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.err = err
}
