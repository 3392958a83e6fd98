package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
	"github.com/keelson-dev/keelson/nodeagent/node"
	"github.com/keelson-dev/keelson/nodeagent/probes"
)

// recorder writes lifecycle's notes as events about the Pod.
type recorder struct {
	record.EventRecorder
}

// newRecorder starts writing events until ctx ends.
func newRecorder(ctx context.Context, a *api, nodeName string) recorder {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(eventSink{ctx: ctx, client: a.client})
	context.AfterFunc(ctx, broadcaster.Shutdown)
	return recorder{broadcaster.NewRecorder(a.scheme, eventSource(nodeName))}
}

// nodeUnreachable tells on this Node why Pods of another cannot be reached from here.
func (r recorder) nodeUnreachable(own string, p overlay.Problem) {
	if r.EventRecorder == nil {
		return
	}
	reference := &corev1.ObjectReference{APIVersion: keelsonv1.GroupVersion.String(), Kind: "Node", Name: own, UID: types.UID(own)}
	r.Eventf(reference, corev1.EventTypeWarning, "NodeUnreachable", "Pods of node %s cannot be reached from here: %s", p.Node, p.Message)
}

// Record implements lifecycle.Recorder.
func (r recorder) Record(pod *keelsonv1.Pod, n lifecycle.Note) {
	reference := &corev1.ObjectReference{
		APIVersion: keelsonv1.GroupVersion.String(), Kind: "Pod",
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
	if n.Container != "" {
		reference.FieldPath = fmt.Sprintf("spec.%s{%s}", containerList(pod, n.Container), n.Container)
	}
	r.Event(reference, n.Type, n.Reason, n.Message)
}

// nodeEvent warns of something that is about the node and no Pod of it.
func (r recorder) nodeEvent(name, reason, message string) {
	r.tellOfNode(name, node.Note{Type: corev1.EventTypeWarning, Reason: reason, Message: message})
}

// tellOfNode writes an event about the node.
func (r recorder) tellOfNode(name string, n node.Note) {
	reference := &corev1.ObjectReference{
		APIVersion: keelsonv1.GroupVersion.String(), Kind: "Node", Name: name, UID: types.UID(name),
	}
	r.Event(reference, n.Type, n.Reason, n.Message)
}

// containerList names the list of the spec that the container is in.
func containerList(pod *keelsonv1.Pod, name string) string {
	if slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name }) {
		return "initContainers"
	}
	if slices.ContainsFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == name }) {
		return "ephemeralContainers"
	}
	return "containers"
}

// recordProbes gives the probes their events.
func recordProbes(r lifecycle.Recorder) probes.Record {
	return func(pod *keelsonv1.Pod, container, eventType, reason, message string) {
		r.Record(pod, lifecycle.Note{Container: container, Type: eventType, Reason: reason, Message: message})
	}
}

// probesChanged lets the health of a container count.
func (a *agent) probesChanged(uid types.UID) {
	a.manager.ProbesChanged(uid)
	a.pool.Wake(uid)
}

// eventTimeout bounds one write of an event; the recorder tries again.
const eventTimeout = 10 * time.Second

// eventSink is record.EventSink on a client with a small scheme.
type eventSink struct {
	ctx    context.Context //nolint:containedctx // record.EventSink's methods take none
	client client.Client
}

func (s eventSink) Create(event *corev1.Event) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(s.ctx, eventTimeout)
	defer cancel()
	return event, s.client.Create(ctx, event)
}

func (s eventSink) Update(event *corev1.Event) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(s.ctx, eventTimeout)
	defer cancel()
	return event, s.client.Update(ctx, event)
}

func (s eventSink) Patch(event *corev1.Event, data []byte) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(s.ctx, eventTimeout)
	defer cancel()
	return event, s.client.Patch(ctx, event, client.RawPatch(types.StrategicMergePatchType, data))
}
