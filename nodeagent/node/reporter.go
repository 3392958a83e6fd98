package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	checkInterval     = 10 * time.Second
	heartbeatInterval = 5 * time.Minute
)

// Reporter keeps this machine's Node.
type Reporter struct {
	client client.Client
	clock  clock.WithTicker
	name   string
	facts  func() Facts
	tell   func(Note)

	poke chan struct{}

	mu   sync.Mutex
	node *keelsonv1.Node
}

// NewReporter returns the Reporter of the Node called name; facts is asked each time
// that the status is computed, and tell hears what is worth an event once it is written.
func NewReporter(c client.Client, clk clock.WithTicker, name string, facts func() Facts, tell func(Note)) *Reporter {
	return &Reporter{client: c, clock: clk, name: name, facts: facts, tell: tell, poke: make(chan struct{}, 1)}
}

// Observe takes note of the Node in the API, nil when it has none.
func (r *Reporter) Observe(node *keelsonv1.Node) {
	r.mu.Lock()
	var cordon Note
	var changed bool
	if !stale(r.node, node) {
		cordon, changed = computeCordonNote(r.node, node)
		r.node = node
	}
	r.mu.Unlock()
	if changed {
		r.tell(cordon)
	}
	r.Poke()
}

// stale says that the watch brings an older state than what this agent wrote itself.
func stale(known, seen *keelsonv1.Node) bool {
	if known == nil || seen == nil || known.UID != seen.UID {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(seen.ResourceVersion, known.ResourceVersion)
	return err == nil && order < 0
}

// Node returns the Node as last seen, nil when there is none.
func (r *Reporter) Node() *keelsonv1.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.node
}

// Poke checks the status soon, because facts have changed.
func (r *Reporter) Poke() {
	select {
	case r.poke <- struct{}{}:
	default: // a check is due already
	}
}

// Run registers the Node and keeps its status until ctx ends.
func (r *Reporter) Run(ctx context.Context) {
	ticker := r.clock.NewTicker(checkInterval)
	defer ticker.Stop()
	for {
		if err := r.sync(ctx); apierrors.IsConflict(err) {
			klog.FromContext(ctx).V(2).Info("Somebody else changed the Node, will write again", "node", r.name)
		} else if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot report the Node, will retry", "node", r.name)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		case <-r.poke:
		}
	}
}

func (r *Reporter) sync(ctx context.Context) error {
	node, err := r.ensureNode(ctx)
	if err != nil {
		return err
	}
	facts := r.facts()
	if missing := missingLabels(node.Labels, Labels(r.name, facts.Machine)); len(missing) > 0 {
		if node, err = r.patchLabels(ctx, node, missing); err != nil {
			return err
		}
	}
	status := computeStatus(node, facts, r.clock.Now())
	if !mustPost(node.Status, status) {
		return nil
	}
	return r.patchStatus(ctx, node, status)
}

// ensureNode returns the Node, created if the API has none.
func (r *Reporter) ensureNode(ctx context.Context) (*keelsonv1.Node, error) {
	if node := r.Node(); node != nil {
		return node, nil
	}
	node := &keelsonv1.Node{}
	node.Name = r.name
	node.Labels = Labels(r.name, r.facts().Machine)
	err := r.client.Create(ctx, node)
	if apierrors.IsAlreadyExists(err) {
		node = &keelsonv1.Node{}
		err = r.client.Get(ctx, client.ObjectKey{Name: r.name}, node)
	} else if err == nil {
		klog.FromContext(ctx).Info("Registered the Node", "node", r.name)
	}
	if err != nil {
		return nil, fmt.Errorf("registering Node %s: %w", r.name, err)
	}
	r.learn(node)
	return node, nil
}

func (r *Reporter) patchLabels(ctx context.Context, node *keelsonv1.Node, labels map[string]string) (*keelsonv1.Node, error) {
	changed := node.DeepCopy()
	if changed.Labels == nil {
		changed.Labels = map[string]string{}
	}
	maps.Copy(changed.Labels, labels)
	if err := r.client.Patch(ctx, changed, client.MergeFrom(node)); err != nil {
		return nil, r.failed(ctx, "labelling", err)
	}
	r.learn(changed)
	return changed, nil
}

func (r *Reporter) patchStatus(ctx context.Context, node *keelsonv1.Node, status keelsonv1.NodeStatus) error {
	// The whole status goes out, not a difference: a difference would leave out fields
	// that are empty here, required by the schema, and not in the API yet. The list of
	// conditions is replaced, so nobody may have written since.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion}, "status": status,
	})
	if err != nil {
		return fmt.Errorf("encoding the status of Node %s: %w", r.name, err)
	}
	changed := &keelsonv1.Node{}
	changed.Name = node.Name
	if err := r.client.Status().Patch(ctx, changed, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return r.failed(ctx, "writing the status of", err)
	}
	r.learn(changed)
	for _, note := range computeNotes(node, changed) {
		r.tell(note)
	}
	return nil
}

// failed wraps err; when the object known is stale or gone it is read again.
func (r *Reporter) failed(ctx context.Context, doing string, err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		node := &keelsonv1.Node{}
		switch getErr := r.client.Get(ctx, client.ObjectKey{Name: r.name}, node); {
		case getErr == nil:
			r.learn(node)
		case apierrors.IsNotFound(getErr):
			r.learn(nil)
		}
		r.Poke()
	}
	return fmt.Errorf("%s Node %s: %w", doing, r.name, err)
}

func (r *Reporter) learn(node *keelsonv1.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.node = node
}
