package resources

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

// allocationTimeout bounds how long a write of a Service waits for its addresses. They
// take milliseconds, on a machine with thirty times too much to do seconds (7 were seen);
// without a manager they never come, and the client gets the Service as it is stored.
const allocationTimeout = 20 * time.Second

// allocates says whether a write may leave something for the allocator of Service
// addresses, whose answer upstream's clients expect in the answer to the write.
func (c *call) allocates() bool {
	return c.row.Kind == "Service" && c.row.Upstream.Group == "" && c.subresource == "" && !c.isDryRun()
}

// allocated waits until the written Service has its addresses, and returns it with
// them. Another object it returns as it is.
func (c *call) allocated(written map[string]any) map[string]any {
	if !c.allocates() || !awaitsAllocation(written) {
		return written
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	timeout := c.clock.NewTimer(allocationTimeout)
	defer timeout.Stop()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-timeout.C():
			cancel()
		case <-stop:
		}
	}()
	complete, err := c.watchAllocation(ctx, written)
	if err != nil {
		klog.FromContext(c.ctx).Info("Answered for a Service before it had its addresses; is the manager running?",
			"service", klog.KRef(metaString(written, "namespace"), metaString(written, "name")), "err", err)
		return written
	}
	return complete
}

// awaitsAllocation says whether the Service controller still has something to write: an
// address, a port, or the columns, which it writes last. A client that updates the
// Service next shall not meet a conflict that upstream would not make.
func awaitsAllocation(tree map[string]any) bool {
	service := &keelsonv1.Service{}
	if err := decodeInto(tree, service); err != nil || service.DeletionTimestamp != nil {
		return false
	}
	return lacksAddresses(&service.Spec) || service.Status.Summary != summary.Service(service)
}

func lacksAddresses(spec *corev1.ServiceSpec) bool {
	if spec.Type == corev1.ServiceTypeExternalName {
		return false
	}
	if spec.ClusterIP == "" || len(spec.ClusterIPs) == 0 {
		return true
	}
	if spec.ClusterIP != corev1.ClusterIPNone && len(spec.ClusterIPs) < len(spec.IPFamilies) {
		return true
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer && spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal && spec.HealthCheckNodePort == 0 {
		return true
	}
	wantsPorts := spec.Type == corev1.ServiceTypeNodePort ||
		spec.Type == corev1.ServiceTypeLoadBalancer && (spec.AllocateLoadBalancerNodePorts == nil || *spec.AllocateLoadBalancerNodePorts)
	return wantsPorts && slices.ContainsFunc(spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == 0 })
}

// errWatchEnded is a watch that ended before the allocation was seen.
var errWatchEnded = errors.New("the watch ended first")

// watchAllocation follows the Service from the version that was written.
func (c *call) watchAllocation(ctx context.Context, written map[string]any) (map[string]any, error) {
	name := metaString(written, "name")
	query := url.Values{
		"watch":           {"true"},
		"resourceVersion": {resourceVersionOf(written)},
		"fieldSelector":   {fields.OneTermEqualSelector("metadata.name", name).String()},
	}
	collection := c.named(metaString(written, "namespace"), "")
	answer, err := c.send(ctx, asked{method: http.MethodGet, target: collection, query: query})
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		raw, err := io.ReadAll(answer.Body)
		if err != nil {
			return nil, err
		}
		return nil, c.errorOf(answer, raw)
	}
	frames := json.NewDecoder(answer.Body)
	for {
		var frame struct {
			Type   watch.EventType `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := frames.Decode(&frame); err != nil {
			return nil, errors.Join(errWatchEnded, err)
		}
		if frame.Type != watch.Added && frame.Type != watch.Modified {
			return nil, errWatchEnded // deleted, or the version is too old
		}
		seen, err := decodeTree(frame.Object)
		if err != nil {
			return nil, err
		}
		if !awaitsAllocation(seen) {
			return seen, nil
		}
	}
}
