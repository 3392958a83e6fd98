package streams

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// servePodProxy relays to a Pod: "name", "name:port" or "scheme:name:port".
func (h *handler) servePodProxy(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) error {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(info.Name)
	if !valid {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q", info.Name))
	}
	if err := refuseDryRun(r); err != nil {
		return err
	}
	if err := h.admitProxy(w, r, info, "PodProxyOptions"); err != nil {
		return err
	}
	pod, err := h.pod(r.Context(), info.Namespace, name)
	if err != nil {
		return err
	}
	host, err := podHost(pod, port)
	if err != nil {
		return err
	}
	h.relay(w, r, info, &url.URL{Scheme: scheme, Host: host}, h.ProxyTransport, nil)
	return nil
}

// podHost is where a Pod serves port; its first declared one when it is empty.
func podHost(pod *corev1.Pod, port string) (string, error) {
	if port == "" {
		port = firstPort(pod)
	}
	var ip string
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	if err := proxyable(ip); err != nil {
		return "", apierrors.NewBadRequest(err.Error())
	}
	switch {
	case port != "":
		return net.JoinHostPort(ip, port), nil
	case strings.Contains(ip, ":"):
		return "[" + ip + "]", nil
	default:
		return ip, nil
	}
}

func firstPort(pod *corev1.Pod) string {
	for i := range pod.Spec.Containers {
		if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
			return strconv.Itoa(int(ports[0].ContainerPort))
		}
	}
	return ""
}

// serveServiceProxy relays to one ready endpoint of a Service.
func (h *handler) serveServiceProxy(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) error {
	if err := refuseDryRun(r); err != nil {
		return err
	}
	if err := h.admitProxy(w, r, info, "ServiceProxyOptions"); err != nil {
		return err
	}
	location, err := h.serviceLocation(r.Context(), info.Namespace, info.Name)
	if err != nil {
		return err
	}
	h.relay(w, r, info, location, h.ProxyTransport, nil)
	return nil
}

// serveNodeProxy relays to a node: to its agent, in the gateway's name, when no port is
// named or the agent's; else to that port.
func (h *handler) serveNodeProxy(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) error {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(info.Name)
	if !valid {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", info.Name))
	}
	if err := refuseDryRun(r); err != nil {
		return err
	}
	if err := h.admitProxy(w, r, info, "NodeProxyOptions"); err != nil {
		return err
	}
	agent, err := h.Nodes.Locate(r.Context(), name)
	if err != nil {
		return err
	}
	if err := proxyableHost(r.Context(), agent.Host); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if port == "" || port == agent.Port {
		h.relay(w, r, info, agent.URL("", nil), agent.Transport(), agent.UpgradeTransport())
		return nil
	}
	h.relay(w, r, info, &url.URL{Scheme: scheme, Host: net.JoinHostPort(agent.Host, port)}, h.ProxyTransport, nil)
	return nil
}

// proxyableHost is proxyable for all addresses of a host.
func proxyableHost(ctx context.Context, host string) error {
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return err
	}
	if len(addresses) == 0 {
		return errors.New("no addresses for hostname")
	}
	for _, address := range addresses {
		if err := proxyable(address.IP.String()); err != nil {
			return err
		}
	}
	return nil
}

// relay sends the request to location, with the path behind "proxy", and rewrites
// redirects and the links of HTML pages so that they lead through the gateway again.
func (h *handler) relay(w http.ResponseWriter, r *http.Request, info *request.RequestInfo, location *url.URL, transport http.RoundTripper, upgrade proxy.UpgradeRequestRoundTripper) {
	location.Path = utilnet.JoinPreservingTrailingSlash(location.Path, subpath(info))
	relay := proxy.NewUpgradeAwareHandler(location, transport, true, false, h)
	relay.UpgradeTransport = upgrade
	relay.ServeHTTP(w, r)
}

// subpath is the path behind ".../proxy", with the slashes of the request.
func subpath(info *request.RequestInfo) string {
	const own = 3 // resource, name and subresource
	var path string
	if len(info.Parts) > own {
		path = "/" + strings.Join(info.Parts[own:], "/")
	}
	if strings.HasSuffix(info.Path, "/") && !strings.HasSuffix(path, "/") {
		path += "/"
	}
	return path
}
