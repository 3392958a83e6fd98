package agent

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/staticpods"
)

const (
	// reasonFailedValidation is upstream's reason for a Pod of a manifest that cannot be
	// used.
	reasonFailedValidation = "FailedValidation"
	reasonFailedMirror     = "FailedMirrorPod"

	// predecessorTimeout bounds the look at the runtime before a static Pod starts.
	predecessorTimeout = 10 * time.Second
)

// static is the agent's static Pods and their mirrors.
type static struct {
	set     *staticpods.Set
	mirrors *staticpods.Mirrors
	// node is the UID of the Node as it was seen last.
	node *atomic.Pointer[types.UID]
}

func (a *agent) newStatic(ctx context.Context) static {
	s := static{node: &atomic.Pointer[types.UID]{}}
	var sources []string
	if a.options.PodManifestPath != "" {
		sources = append(sources, staticpods.SourceFile)
	}
	if a.options.ManifestURL != "" {
		sources = append(sources, staticpods.SourceHTTP)
	}
	report := a.reportManifest(ctx)
	s.set = staticpods.NewSet(staticRunner{a, ctx}, a.clock, report,
		func(name types.NamespacedName) { s.mirrors.Changed(name) }, sources...)
	s.mirrors = staticpods.NewMirrors(staticpods.MirrorOptions{
		Client: a.api.client, Clock: a.clock, Set: s.set, Node: a.reporter.Node,
		Synced: func() bool { return a.synced() == nil },
		Attach: a.attachMirror, Refused: a.mirrorRefused,
	})
	return s
}

// startStatic begins to read manifests and returns when those on this machine have been
// read once: what runs of them is then known to be theirs.
func (a *agent) startStatic(ctx context.Context, start func(func(context.Context))) {
	start(a.static.mirrors.Run)
	report := a.reportManifest(ctx)
	if url := a.options.ManifestURL; url != "" {
		source := &staticpods.URL{Address: url, Header: manifestHeader(a.options.ManifestURLHeader), Node: a.settings.name,
			Interval: a.options.HTTPCheckFrequency.Duration, Clock: a.clock, Report: report}
		start(func(ctx context.Context) {
			source.Run(ctx, func(pods []*keelsonv1.Pod) { a.static.set.Replace(staticpods.SourceHTTP, pods) })
		})
	}
	if a.options.PodManifestPath == "" {
		return
	}
	files := &staticpods.Files{Path: a.options.PodManifestPath, Node: a.settings.name,
		Interval: a.options.FileCheckFrequency.Duration, Clock: a.clock, Report: report}
	read := make(chan struct{})
	start(func(ctx context.Context) {
		files.Run(ctx, func(pods []*keelsonv1.Pod) { a.static.set.Replace(staticpods.SourceFile, pods) }, func() { close(read) })
	})
	select {
	case <-read:
	case <-ctx.Done():
	}
}

// reportManifest says what is wrong with a manifest, in the log and on the Node.
func (a *agent) reportManifest(ctx context.Context) staticpods.Report {
	return func(place string, err error) {
		if err == nil {
			klog.FromContext(ctx).Info("The manifests can be used again", "source", place)
			return
		}
		klog.FromContext(ctx).Error(err, "Could not process manifest", "source", place)
		a.events.nodeEvent(a.settings.name, reasonFailedValidation, fmt.Sprintf("Could not process manifest %s: %v", place, err))
	}
}

// attachMirror lets a mirror show the status of its static Pod.
func (a *agent) attachMirror(pod, mirror *keelsonv1.Pod) {
	a.writer.ObserveMirror(pod.UID, mirror)
	if mirror != nil && terminal(mirror) {
		a.admitted.remove(pod.UID) // it has ended and holds nothing any more
	}
}

func (a *agent) mirrorRefused(pod *keelsonv1.Pod, err error) {
	a.manager.Recorder.Record(pod, lifecycle.Note{Type: corev1.EventTypeWarning, Reason: reasonFailedMirror, Message: err.Error()})
	a.events.nodeEvent(a.settings.name, reasonFailedMirror, err.Error())
}

// staticRunner runs static Pods as the agent runs others.
type staticRunner struct {
	*agent
	ctx context.Context //nolint:containedctx // the agent's own: a Set is called from many places
}

// Predecessors implements staticpods.Runner. A runtime that does not answer holds
// nothing up.
func (r staticRunner) Predecessors(pod *keelsonv1.Pod) []types.UID {
	ctx, cancel := context.WithTimeout(r.ctx, predecessorTimeout)
	defer cancel()
	held, err := r.runtime.List(ctx)
	if err != nil {
		klog.FromContext(ctx).Info("Cannot see whether an earlier static Pod of the name runs", "pod", klog.KObj(pod), "err", err)
		return nil
	}
	var uids []types.UID
	for _, id := range staticpods.PredecessorsIn(held, pod) {
		r.pool.Orphan(id)
		uids = append(uids, id.UID)
	}
	return uids
}

// Run implements staticpods.Runner.
func (r staticRunner) Run(pod *keelsonv1.Pod) {
	klog.FromContext(r.ctx).Info("Running a static Pod", "pod", klog.KObj(pod), "podUID", pod.UID)
	r.writer.ObserveStatic(pod.UID)
	r.admit(r.ctx, pod)
	r.weighBurstable(r.ctx)
	r.ports.setPod(pod)
	r.pool.Update(pod)
}

// End implements staticpods.Runner.
func (r staticRunner) End(uid types.UID) {
	klog.FromContext(r.ctx).Info("Ending a static Pod: its manifest is gone or different", "podUID", uid)
	r.admitted.remove(uid)
	r.resizes.forget(uid)
	r.awaited.forget(uid)
	r.weighBurstable(r.ctx)
	r.retryResizes(r.ctx)
	r.ports.forget(uid)
	r.pool.Gone(uid)
}

// isMirror says that an object of the API shows a static Pod, and is none to run. What
// runs already as a Pod of its own stays one, whatever somebody writes into it.
func (a *agent) isMirror(pod *keelsonv1.Pod) bool {
	return staticpods.IsMirror(pod) && !a.pool.Has(pod.UID)
}

func manifestHeader(pairs map[string]string) http.Header {
	header := http.Header{}
	for name, value := range pairs {
		header.Set(name, value)
	}
	return header
}

// nodeSeen looks at the mirrors again when the Node becomes another one: they belong to
// it.
func (a *agent) nodeSeen(n *keelsonv1.Node) {
	uid := types.UID("")
	if n != nil {
		uid = n.UID
	}
	if before := a.static.node.Swap(&uid); before == nil || *before != uid {
		a.static.mirrors.Changed(types.NamespacedName{})
	}
}
