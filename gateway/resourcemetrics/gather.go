package resourcemetrics

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/nodes"
	"github.com/keelson-dev/keelson/gateway/upstream"
	"github.com/keelson-dev/keelson/internal/agentmetrics"
)

// The names that stock metrics servers use in NotFound errors.
var (
	nodeResource = schema.GroupResource{Group: metricsv1beta1.GroupName, Resource: "nodemetrics"}
	podResource  = schema.GroupResource{Group: metricsv1beta1.GroupName, Resource: "podmetrics"}
)

func (h *handler) getNode(ctx context.Context, name string) (*metricsv1beta1.NodeMetrics, error) {
	notFound := apierrors.NewNotFound(nodeResource, name)
	if len(content.IsPathSegmentName(name)) > 0 {
		return nil, notFound
	}
	node := &keelsonv1.Node{}
	err := h.read(ctx, "/nodes/"+url.PathEscape(name), nil, node)
	if apierrors.IsNotFound(err) {
		return nil, notFound
	}
	if err != nil {
		return nil, err
	}
	summary, err := h.askNode(ctx, node.Upstream())
	if err != nil {
		logSilent(ctx, name, err)
		return nil, notFound
	}
	if metrics := agentmetrics.Node(node.ObjectMeta, summary, h.Clock.Now()); metrics != nil {
		return metrics, nil
	}
	return nil, notFound
}

func (h *handler) listNodes(ctx context.Context, wanted selection) (*metricsv1beta1.NodeMetricsList, error) {
	all := &keelsonv1.NodeList{}
	if err := h.read(ctx, "/nodes", wanted.query(), all); err != nil {
		return nil, err
	}
	summaries := h.askAll(ctx, all.Items)
	list := &metricsv1beta1.NodeMetricsList{TypeMeta: agentmetrics.TypeMeta("NodeMetricsList"), Items: []metricsv1beta1.NodeMetrics{}}
	now := h.Clock.Now()
	for i := range all.Items {
		if summaries[i] == nil {
			continue
		}
		if metrics := agentmetrics.Node(all.Items[i].ObjectMeta, summaries[i], now); metrics != nil {
			list.Items = append(list.Items, *metrics)
		}
	}
	slices.SortFunc(list.Items, func(a, b metricsv1beta1.NodeMetrics) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (h *handler) getPod(ctx context.Context, namespace, name string) (*metricsv1beta1.PodMetrics, error) {
	notFound := apierrors.NewNotFound(podResource, namespace+"/"+name)
	if len(content.IsPathSegmentName(name)) > 0 {
		return nil, notFound
	}
	pod := &keelsonv1.Pod{}
	err := h.read(ctx, "/namespaces/"+url.PathEscape(namespace)+"/pods/"+url.PathEscape(name), nil, pod)
	if apierrors.IsNotFound(err) {
		return nil, notFound
	}
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" || pod.Status.Phase != corev1.PodRunning {
		return nil, notFound
	}
	agent, err := h.Nodes.Locate(ctx, pod.Spec.NodeName)
	if err != nil {
		logSilent(ctx, pod.Spec.NodeName, err)
		return nil, notFound
	}
	summary, err := h.ask(ctx, agent)
	if err != nil {
		logSilent(ctx, pod.Spec.NodeName, err)
		return nil, notFound
	}
	list := agentmetrics.Pods([]metav1.ObjectMeta{pod.ObjectMeta}, []*statsv1alpha1.Summary{summary}, h.Clock.Now())
	if len(list.Items) == 0 {
		return nil, notFound
	}
	return &list.Items[0], nil
}

func (h *handler) listPods(ctx context.Context, namespace string, wanted selection) (*metricsv1beta1.PodMetricsList, error) {
	where := "/pods"
	if namespace != "" {
		where = "/namespaces/" + url.PathEscape(namespace) + "/pods"
	}
	wanted.fields = append(wanted.fields, "status.phase="+string(corev1.PodRunning))
	pods := &metav1.PartialObjectMetadataList{}
	if err := h.read(ctx, where, wanted.query(), pods); err != nil {
		return nil, err
	}
	metas := make([]metav1.ObjectMeta, len(pods.Items))
	for i := range pods.Items {
		metas[i] = pods.Items[i].ObjectMeta
	}
	var answered []*statsv1alpha1.Summary
	if len(metas) > 0 {
		all := &keelsonv1.NodeList{}
		if err := h.read(ctx, "/nodes", nil, all); err != nil {
			return nil, err
		}
		answered = slices.DeleteFunc(h.askAll(ctx, all.Items), func(s *statsv1alpha1.Summary) bool { return s == nil })
	}
	return agentmetrics.Pods(metas, answered, h.Clock.Now()), nil
}

// askAll asks the agents of all nodes at once, within bounds. A node that did not answer
// has no summary, and a line in the log.
func (h *handler) askAll(ctx context.Context, all []keelsonv1.Node) []*statsv1alpha1.Summary {
	summaries := make([]*statsv1alpha1.Summary, len(all))
	var group errgroup.Group
	group.SetLimit(h.Parallel)
	for i := range all {
		group.Go(func() error {
			summary, err := h.askNode(ctx, all[i].Upstream())
			if err != nil {
				logSilent(ctx, all[i].Name, err)
			}
			summaries[i] = summary
			return nil
		})
	}
	_ = group.Wait() // no function returns an error
	return summaries
}

func logSilent(ctx context.Context, node string, err error) {
	if ctx.Err() != nil {
		return // the client left; the node may be well
	}
	klog.FromContext(ctx).Info("Left a node out of the metrics because its agent did not answer", "node", klog.KRef("", node), "err", err)
}

func (h *handler) askNode(ctx context.Context, node *corev1.Node) (*statsv1alpha1.Summary, error) {
	agent, err := h.Nodes.Agent(node)
	if err != nil {
		return nil, err
	}
	return h.ask(ctx, agent)
}

// ask gets the summary of one node.
func (h *handler) ask(ctx context.Context, agent *nodes.Agent) (*statsv1alpha1.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	return agentmetrics.Summary(ctx, agent.Transport(), agentmetrics.Location(net.JoinHostPort(agent.Host, agent.Port)))
}

// read decodes what the API server has at where, below the group of Keelson's core
// kinds, in the gateway's name.
func (h *handler) read(ctx context.Context, where string, query url.Values, into any) error {
	accept := "application/json"
	if _, ok := into.(*metav1.PartialObjectMetadataList); ok {
		accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
	}
	response, err := h.Upstream.Do(upstream.AsGateway(ctx), upstream.Request{
		Method: http.MethodGet,
		Path:   "/apis/" + keelsonv1.GroupVersion.String() + where,
		Query:  query,
		Header: http.Header{"Accept": {accept}},
	})
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("read %s: %w", where, err))
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return apierrors.NewNotFound(nodeResource, where)
	case http.StatusBadRequest:
		return apierrors.NewBadRequest(agentmetrics.Refusal(response).Error())
	default:
		return apierrors.NewInternalError(fmt.Errorf("read %s: %w", where, agentmetrics.Refusal(response)))
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return apierrors.NewInternalError(fmt.Errorf("read %s: decode the API server's answer: %w", where, err))
	}
	return nil
}
