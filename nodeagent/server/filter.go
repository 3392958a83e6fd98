package server

import (
	"fmt"
	"net/http"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/klog/v2"
)

// authenticated lets requests through to next whose sender is known and may send them.
// The answers to others are the kubelet's.
func (s *Server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log := klog.FromContext(r.Context())
		user, ok, err := s.authenticator.authenticate(r)
		if err != nil {
			log.Info("Cannot authenticate a request", "path", r.URL.Path, "remoteAddress", r.RemoteAddr, "err", err)
		}
		if err != nil || !ok {
			writeError(w, http.StatusUnauthorized, "Unauthorized")
			return
		}
		if s.authorized(w, r, user) {
			next.ServeHTTP(w, r)
		}
	})
}

// authorized says whether user may send r; if not, it has answered.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request, user authenticationv1.UserInfo) bool {
	log := klog.FromContext(r.Context())
	verb, names := verbOf(r.Method), subresources(r.URL.Path)
	for _, name := range names {
		allowed, err := s.authorizer.authorize(r.Context(), user, attributes{
			verb: verb, node: s.NodeName, subresource: name,
		})
		if err != nil {
			log.Error(err, "Cannot authorize a request", "user", user.Username, "verb", verb, "subresource", name)
			writeError(w, http.StatusInternalServerError, fmt.Sprintf(
				"Authorization error (user=%s, verb=%s, resource=nodes, subresource=%s)", user.Username, verb, name))
			return false
		}
		if allowed {
			return true
		}
	}
	log.V(2).Info("Refused a request", "user", user.Username, "verb", verb, "subresources", names)
	writeError(w, http.StatusForbidden, fmt.Sprintf(
		"Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)\n", user.Username, verb, names))
	return false
}

// verbOf translates an HTTP method; others than those of the API give no verb, which
// only a rule for every verb allows.
func verbOf(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet:
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return ""
}

// subresources returns the subresources of nodes of which one must be allowed for path,
// as the kubelet's fine-grained authorization has them (pkg/kubelet/server/auth.go,
// KEP-2862).
func subresources(path string) []string {
	for _, rule := range []struct {
		path  string
		names []string
	}{
		{"/stats", []string{"stats"}},
		{"/metrics", []string{"metrics"}},
		{"/logs", []string{"log"}},
		{"/checkpoint", []string{"checkpoint"}},
		{"/statusz", []string{"statusz"}},
		{"/flagz", []string{"configz"}},
		{"/pods", []string{"pods", "proxy"}},
		{"/runningpods", []string{"pods", "proxy"}},
		{"/healthz", []string{"healthz", "proxy"}},
		{"/configz", []string{"configz", "proxy"}},
	} {
		if path == rule.path || strings.HasPrefix(path, rule.path+"/") {
			return rule.names
		}
	}
	return []string{"proxy"}
}

// writeError answers with a text and nothing after it.
func writeError(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprint(w, text)
}
