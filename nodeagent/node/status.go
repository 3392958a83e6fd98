package node

import (
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

// Reasons of the Ready condition, as upstream.
const (
	reasonReady    = "KubeletReady"
	reasonNotReady = "KubeletNotReady"

	messageReady = "keelson-node is posting ready status"
)

// Facts are what a Node's status follows from.
type Facts struct {
	Machine Machine
	// IPs are the node's addresses, the primary one first.
	IPs []string
	// MaxPods bounds the Pods of this node.
	MaxPods int
	// ServerPort is where the node's API is served, 0 for nowhere.
	ServerPort int
	// Version is the agent's; RuntimeVersion is "name://version", empty until known.
	Version, RuntimeVersion string
	// Handlers are the runtime's, by what a RuntimeClass calls them; nil until known. Features
	// are the runtime's own.
	Handlers []corev1.NodeRuntimeHandler
	Features *corev1.NodeFeatures
	// Reserved is what of the machine is not for Pods.
	Reserved corev1.ResourceList
	// Problems say why Pods cannot run here; none means Ready.
	Problems []string
	// KeepsRoutes says that this agent sets the routes to other nodes' Pods; RouteProblem
	// why it cannot, empty when it can.
	KeepsRoutes  bool
	RouteProblem string
	// DiskBytes is the size of the disk that Pods write to, 0 when it is not known.
	DiskBytes int64
	// HeldBack is what must stay free of the machine, so that Pods are not ended for it.
	HeldBack corev1.ResourceList
	// Short are the conditions about something that runs short which are true; nil when that
	// is not known yet.
	Short []corev1.NodeConditionType
	// Images are those of this machine that it names; nil when they are not known yet.
	Images []corev1.ContainerImage
}

// Labels returns what every Node of this agent carries.
func Labels(name string, m Machine) map[string]string {
	return map[string]string{
		corev1.LabelHostname:   name,
		corev1.LabelOSStable:   m.OS,
		corev1.LabelArchStable: m.Architecture,
	}
}

// computeStatus returns the status of node that follows from facts. Conditions of
// other writers are kept.
func computeStatus(node *keelsonv1.Node, f Facts, now time.Time) keelsonv1.NodeStatus {
	status := *node.Status.DeepCopy()
	status.Capacity, status.Allocatable = Capacity(f), Allocatable(f)
	keepExtended(&status, node.Status.Capacity)
	status.Addresses = nil
	for _, ip := range f.IPs {
		status.Addresses = append(status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	status.Addresses = append(status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: f.Machine.Hostname})
	status.NodeInfo = corev1.NodeSystemInfo{
		MachineID: f.Machine.MachineID, SystemUUID: f.Machine.SystemUUID, BootID: f.Machine.BootID,
		KernelVersion: f.Machine.KernelVersion, OSImage: f.Machine.OSImage,
		OperatingSystem: f.Machine.OS, Architecture: f.Machine.Architecture,
		ContainerRuntimeVersion: f.RuntimeVersion, KubeletVersion: f.Version,
	}
	status.DaemonEndpoints = corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(f.ServerPort)}}
	if f.Images != nil {
		status.Images = f.Images
	}
	if f.Handlers != nil {
		status.RuntimeHandlers, status.Features = f.Handlers, f.Features
	}
	setPressures(&status, f.Short, now)
	setReady(&status, f.Problems, now)
	setNetwork(&status, f, now)

	rendered := *node
	rendered.Status = status
	status.Summary = summary.Node(&rendered)
	return status
}

// keepExtended leaves resources that somebody else gave the node, and lets Pods have all
// of them, as the kubelet does.
func keepExtended(status *keelsonv1.NodeStatus, present corev1.ResourceList) {
	for name, quantity := range present {
		if IsExtended(name) {
			status.Capacity[name], status.Allocatable[name] = quantity, quantity
		}
	}
}

// IsExtended says that a resource is none that a machine has by itself: somebody else
// gives it to a node.
func IsExtended(name corev1.ResourceName) bool {
	return strings.Contains(string(name), "/") && !strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// setNetwork says whether Pods of other nodes can be reached, with the reasons of
// upstream's route controller. Where somebody else keeps the routes he says it.
func setNetwork(status *keelsonv1.NodeStatus, f Facts, now time.Time) {
	if !f.KeepsRoutes {
		return
	}
	c := corev1.NodeCondition{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: "RouteCreated", Message: "keelson-node keeps the routes to other nodes"}
	if f.RouteProblem != "" {
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "NoRouteCreated", f.RouteProblem
	}
	setCondition(status, c, now)
}

func setReady(status *keelsonv1.NodeStatus, problems []string, now time.Time) {
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: reasonReady, Message: messageReady}
	if len(problems) > 0 {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, reasonNotReady, strings.Join(problems, "; ")
	}
	setCondition(status, ready, now)
}

// mustPost says that the API has to hear of after: something other than the heartbeat
// differs, or the last heartbeat is old.
func mustPost(before, after keelsonv1.NodeStatus) bool {
	a, b := before.DeepCopy(), after.DeepCopy()
	old := takeHeartbeat(a)
	return takeHeartbeat(b).Sub(old) >= heartbeatInterval || !equality.Semantic.DeepEqual(a, b)
}

// takeHeartbeat blanks the heartbeats of the agent's own conditions and returns Ready's.
func takeHeartbeat(s *keelsonv1.NodeStatus) time.Time {
	var at time.Time
	for i := range s.Conditions {
		c := &s.Conditions[i]
		if !isOwnCondition(c.Type) {
			continue
		}
		if c.Type == corev1.NodeReady {
			at = c.LastHeartbeatTime.Time
		}
		c.LastHeartbeatTime = metav1.Time{}
	}
	return at
}

// missingLabels returns the labels of want that have another value or none.
func missingLabels(have, want map[string]string) map[string]string {
	missing := maps.Clone(want)
	maps.DeleteFunc(missing, func(key, value string) bool { return have[key] == value })
	return missing
}
