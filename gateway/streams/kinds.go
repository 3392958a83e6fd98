package streams

import (
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/endpoints/request"
)

var (
	getOnly = []string{http.MethodGet}
	// upgrades: browsers can only open a WebSocket by GET.
	upgrades = []string{http.MethodGet, http.MethodPost}
	proxied  = []string{
		http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodHead, http.MethodOptions,
	}
)

func allowed(methods []string, method string) bool { return slices.Contains(methods, method) }

// kindOf says how a request is served; nil when it is not for this package.
func kindOf(info *request.RequestInfo) *kind {
	if info.APIGroup != corev1.GroupName || info.APIVersion != corev1.SchemeGroupVersion.Version {
		return nil
	}
	switch info.Resource + "/" + info.Subresource {
	case "pods/log":
		return &kind{getOnly, (*handler).serveLog}
	case "pods/exec":
		return &kind{upgrades, (*handler).serveExec}
	case "pods/attach":
		return &kind{upgrades, (*handler).serveAttach}
	case "pods/portforward":
		return &kind{upgrades, (*handler).servePortForward}
	case "pods/proxy":
		return &kind{proxied, (*handler).servePodProxy}
	case "services/proxy":
		return &kind{proxied, (*handler).serveServiceProxy}
	case "nodes/proxy":
		return &kind{proxied, (*handler).serveNodeProxy}
	}
	return nil
}
