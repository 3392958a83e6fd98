// Package agentmetrics reads what Pods and nodes use of CPU and memory from the agents'
// /stats/summary, in the form of metrics.k8s.io.
//
// The gateway serves it, and the manager scales by it. The package holds no state, sends
// one request per call, and knows nothing about credentials: the caller's transport does.
package agentmetrics

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

const (
	// Window is the time between two samples of an agent, over which it computes the use
	// of CPU.
	Window = 10 * time.Second
	// DefaultPort is where an agent serves when its Node does not say.
	DefaultPort = 10250

	// maxRefusal bounds what is read of an answer that tells of a failure.
	maxRefusal = 64 << 10
)

// Address is host:port of the agent of a node: the first address of a preferred type, and
// the port that the Node says. The error is in upstream's words (pkg/util/node).
func Address(node *corev1.Node) (string, error) {
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName} {
		for _, address := range node.Status.Addresses {
			if address.Type == kind {
				port := node.Status.DaemonEndpoints.KubeletEndpoint.Port
				if port <= 0 {
					port = DefaultPort
				}
				return net.JoinHostPort(address.Address, strconv.Itoa(int(port))), nil
			}
		}
	}
	return "", fmt.Errorf("no preferred addresses found; known addresses: %v", node.Status.Addresses)
}

// Location is the path and query of a summary of CPU and memory.
func Location(address string) *url.URL {
	return &url.URL{Scheme: "https", Host: address, Path: "/stats/summary", RawQuery: url.Values{"only_cpu_and_memory": {"true"}}.Encode()}
}

// Summary gets the summary at location.
func Summary(ctx context.Context, transport http.RoundTripper, location *url.URL) (*statsv1alpha1.Summary, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make the request for %s: %w", location, err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", location, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %w", location, Refusal(response))
	}
	summary := &statsv1alpha1.Summary{}
	if err := json.NewDecoder(response.Body).Decode(summary); err != nil {
		return nil, fmt.Errorf("get %s: decode the answer: %w", location, err)
	}
	return summary, nil
}

// Refusal is the message of an answer that is a Status, or what else it says.
func Refusal(response *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxRefusal))
	if err != nil {
		return fmt.Errorf("the answer was %s", response.Status)
	}
	status := metav1.Status{}
	if json.Unmarshal(body, &status) == nil && status.Message != "" {
		return errors.New(status.Message)
	}
	return fmt.Errorf("the answer was %s: %s", response.Status, body)
}

// usage is what a summary says of one node or container; false when one of the two
// numbers is not measured yet: half of it would be read as nothing used.
func usage(cpu *statsv1alpha1.CPUStats, memory *statsv1alpha1.MemoryStats) (corev1.ResourceList, time.Time, bool) {
	if cpu == nil || cpu.UsageNanoCores == nil || memory == nil || memory.WorkingSetBytes == nil {
		return nil, time.Time{}, false
	}
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(*cpu.UsageNanoCores), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(int64(*memory.WorkingSetBytes), resource.BinarySI),
	}, cpu.Time.Time, true
}

// Node is what a summary says of the node itself; nil when it says nothing yet.
func Node(node metav1.ObjectMeta, summary *statsv1alpha1.Summary, now time.Time) *metricsv1beta1.NodeMetrics {
	used, at, ok := usage(summary.Node.CPU, summary.Node.Memory)
	if !ok {
		return nil
	}
	return &metricsv1beta1.NodeMetrics{
		TypeMeta:   TypeMeta("NodeMetrics"),
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: node.Labels, CreationTimestamp: metav1.NewTime(now)},
		Timestamp:  metav1.NewTime(at),
		Window:     metav1.Duration{Duration: Window},
		Usage:      used,
	}
}

// podMetrics is what an agent says of a Pod; nil when one of its containers is not
// measured yet.
func podMetrics(pod metav1.ObjectMeta, stats *statsv1alpha1.PodStats, now time.Time) *metricsv1beta1.PodMetrics {
	metrics := &metricsv1beta1.PodMetrics{
		TypeMeta:   TypeMeta("PodMetrics"),
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, CreationTimestamp: metav1.NewTime(now)},
		Window:     metav1.Duration{Duration: Window},
		Containers: make([]metricsv1beta1.ContainerMetrics, 0, len(stats.Containers)),
	}
	for i := range stats.Containers {
		container := &stats.Containers[i]
		used, at, ok := usage(container.CPU, container.Memory)
		if !ok {
			return nil
		}
		if metrics.Timestamp.IsZero() || at.Before(metrics.Timestamp.Time) {
			metrics.Timestamp = metav1.NewTime(at)
		}
		metrics.Containers = append(metrics.Containers, metricsv1beta1.ContainerMetrics{Name: container.Name, Usage: used})
	}
	if len(metrics.Containers) == 0 {
		return nil
	}
	slices.SortFunc(metrics.Containers, func(a, b metricsv1beta1.ContainerMetrics) int { return cmp.Compare(a.Name, b.Name) })
	return metrics
}

// Pods joins the wanted Pods with what the agents say. An agent may still report
// a Pod that is gone and whose name another one bears: the UID tells.
func Pods(wanted []metav1.ObjectMeta, summaries []*statsv1alpha1.Summary, now time.Time) *metricsv1beta1.PodMetricsList {
	byUID := map[types.UID]*statsv1alpha1.PodStats{}
	for _, summary := range summaries {
		for i := range summary.Pods {
			byUID[types.UID(summary.Pods[i].PodRef.UID)] = &summary.Pods[i]
		}
	}
	list := &metricsv1beta1.PodMetricsList{TypeMeta: TypeMeta("PodMetricsList"), Items: []metricsv1beta1.PodMetrics{}}
	for _, pod := range wanted {
		stats, ok := byUID[pod.UID]
		if !ok {
			continue
		}
		if metrics := podMetrics(pod, stats, now); metrics != nil {
			list.Items = append(list.Items, *metrics)
		}
	}
	slices.SortFunc(list.Items, func(a, b metricsv1beta1.PodMetrics) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// TypeMeta is that of a kind of metrics.k8s.io.
func TypeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: metricsv1beta1.SchemeGroupVersion.String()}
}
