package streams

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/endpoints/request"
	translator "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/keelson-dev/keelson/gateway/nodes"
)

// nativeWebSockets is the feature that a node declares whose agent speaks the WebSocket
// protocols v5.channel.k8s.io and SPDY/3.1+portforward.k8s.io itself.
const nativeWebSockets = "ExtendWebSocketsToKubelet"

// serveExec runs a command in a container.
func (h *handler) serveExec(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) error {
	options, err := execOptions(r.URL.Query())
	if err != nil {
		return err
	}
	if err := h.admit(w, r, info, "PodExecOptions", options); err != nil {
		return err
	}
	if err := validateExec(options); err != nil {
		return err
	}
	query := streamQuery(options)
	query["command"] = options.Command
	return h.serveContainer(w, r, info, "exec", options, query)
}

// serveAttach joins the streams of a container.
func (h *handler) serveAttach(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) error {
	options, err := execOptions(r.URL.Query())
	if err != nil {
		return err
	}
	options.Command = nil // an attachment has none
	if err := h.admit(w, r, info, "PodAttachOptions", options); err != nil {
		return err
	}
	if err := validateStreams(options); err != nil {
		return err
	}
	return h.serveContainer(w, r, info, "attach", options, streamQuery(options))
}

func (h *handler) serveContainer(w http.ResponseWriter, r *http.Request, info *request.RequestInfo, verb string, options *corev1.PodExecOptions, query url.Values) error {
	pod, err := h.connectable(r, info)
	if err != nil {
		return err
	}
	container, err := chooseContainer(pod, options.Container)
	if err != nil {
		return err
	}
	agent, err := h.agentOf(r, pod)
	if err != nil {
		return err
	}
	location := agent.URL("/"+verb+"/"+pod.Namespace+"/"+pod.Name+"/"+container, query)
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) && !slices.Contains(agent.Features, nativeWebSockets) {
		serveWebSocket(w, r, agent, location, options)
		return nil
	}
	h.upgrade(agent, location).ServeHTTP(w, r)
	return nil
}

// servePortForward joins connections of the client with ports of a Pod.
func (h *handler) servePortForward(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) error {
	options, err := portForwardOptions(r.URL.Query())
	if err != nil {
		return err
	}
	if err := h.admit(w, r, info, "PodPortForwardOptions", options); err != nil {
		return err
	}
	pod, err := h.connectable(r, info)
	if err != nil {
		return err
	}
	agent, err := h.agentOf(r, pod)
	if err != nil {
		return err
	}
	query := url.Values{}
	if len(options.Ports) > 0 {
		ports := make([]string, len(options.Ports))
		for i, port := range options.Ports {
			ports[i] = strconv.Itoa(int(port))
		}
		query.Set(corev1.PortHeader, strings.Join(ports, ","))
	}
	var serve http.Handler = h.upgrade(agent, agent.URL("/portForward/"+pod.Namespace+"/"+pod.Name, query))
	if wsstream.IsWebSocketRequestWithTunnelingProtocol(r) && !slices.Contains(agent.Features, nativeWebSockets) {
		serve = translator.NewTunnelingHandler(serve)
	}
	serve.ServeHTTP(w, r)
	return nil
}

// connectable reads the Pod of a request that opens a connection to it.
func (h *handler) connectable(r *http.Request, info *request.RequestInfo) (*corev1.Pod, error) {
	if err := refuseDryRun(r); err != nil {
		return nil, err
	}
	return h.pod(r.Context(), info.Namespace, info.Name)
}

// agentOf finds the agent that runs a Pod.
func (h *handler) agentOf(r *http.Request, pod *corev1.Pod) (*nodes.Agent, error) {
	if pod.Spec.NodeName == "" {
		return nil, notScheduled(pod.Name)
	}
	return h.Nodes.Locate(r.Context(), pod.Spec.NodeName)
}

// upgrade relays the bytes of an upgraded connection to an agent, whatever the protocol.
func (h *handler) upgrade(agent *nodes.Agent, location *url.URL) *proxy.UpgradeAwareHandler {
	relay := proxy.NewUpgradeAwareHandler(location, agent.Transport(), false, true, h)
	relay.UpgradeTransport = agent.UpgradeTransport()
	relay.UseLocationHost = true
	return relay
}

func refuseDryRun(r *http.Request) error {
	if len(r.URL.Query()["dryRun"]) > 0 {
		return apierrors.NewBadRequest("dryRun is not supported")
	}
	return nil
}

func validateExec(options *corev1.PodExecOptions) error {
	if len(options.Command) == 0 {
		return apierrors.NewBadRequest("you must specify at least one command for the container")
	}
	return validateStreams(options)
}

// validateStreams says what an agent would, before anything is upgraded: a WebSocket
// client would see it in the stream only.
func validateStreams(options *corev1.PodExecOptions) error {
	if !options.Stdin && !options.Stdout && !options.Stderr {
		return apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	return nil
}

// streamQuery is how an agent is told of the streams.
func streamQuery(options *corev1.PodExecOptions) url.Values {
	query := url.Values{}
	for name, set := range map[string]bool{
		corev1.ExecStdinParam:  options.Stdin,
		corev1.ExecStdoutParam: options.Stdout,
		corev1.ExecStderrParam: options.Stderr,
		corev1.ExecTTYParam:    options.TTY,
	} {
		if set {
			query.Set(name, "1")
		}
	}
	return query
}
