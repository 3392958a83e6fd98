package filters

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"
	"k8s.io/klog/v2"
)

// maxLogged bounds what one client can make the log say in one field.
const maxLogged = 1024

// observer is the outermost filter: whatever happens inside, the request has an id
// and leaves a line.
type observer struct {
	next    http.Handler
	options Options
}

// ServeHTTP answers one request.
func (o *observer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := types.UID(r.Header.Get(auditIDHeader))
	if id == "" {
		id = o.options.NewID()
		r.Header.Set(auditIDHeader, string(id)) // the API server's log says the same
	}
	w.Header().Set(auditIDHeader, string(id))
	answer := &answerWriter{ResponseWriter: w}
	rec := &record{id: id, answer: answer}
	begin := o.options.Clock.Now()
	leave := o.enter(rec)
	defer func() {
		// Runs also while a panic that cuts the connection goes through.
		took := o.options.Clock.Since(begin)
		leave(rec, answer, took)
		logRequest(r, rec, answer, took)
	}()
	ctx := context.WithValue(r.Context(), recordKey{}, rec)
	o.next.ServeHTTP(responsewriter.WrapForHTTP1Or2(answer), r.WithContext(ctx))
}

func (o *observer) enter(rec *record) func(*record, *answerWriter, time.Duration) {
	if o.options.Metrics == nil {
		return func(*record, *answerWriter, time.Duration) {}
	}
	return o.options.Metrics.enter(rec)
}

// logRequest writes the line: who did what, and how it ended.
func logRequest(r *http.Request, rec *record, answer *answerWriter, took time.Duration) {
	fields := []any{
		"auditID", truncate(string(rec.id), 64), "method", r.Method, "uri", truncate(r.RequestURI, maxLogged),
		"code", answer.status(), "latency", took, "bytes", answer.bytes,
		"user", nameOf(rec.user), "client", r.RemoteAddr, "userAgent", truncate(r.UserAgent(), 128),
	}
	if rec.as != nil {
		fields = append(fields, "impersonated", nameOf(rec.as))
	}
	if info := rec.info; info != nil && info.IsResourceRequest {
		fields = append(fields, "verb", info.Verb, "resource", resourceOf(info), "namespace", info.Namespace, "name", info.Name)
	}
	if answer.hijacked {
		fields = append(fields, "stream", true)
	}
	if rec.refused != "" {
		fields = append(fields, "refused", truncate(rec.refused, maxLogged))
	}
	klog.FromContext(r.Context()).Info("Request", fields...)
}

// LogStream writes the line of a stream into a Pod or Node when it begins: its other
// line comes at the end, which may be days later, or never if the process is killed.
func LogStream(r *http.Request) {
	rec := recordFrom(r.Context())
	if rec.info == nil || rec.info.Verb == "watch" {
		return
	}
	fields := []any{"auditID", truncate(string(rec.id), 64), "user", nameOf(rec.user), "client", r.RemoteAddr, "uri", truncate(r.RequestURI, maxLogged)}
	if rec.as != nil {
		fields = append(fields, "impersonated", nameOf(rec.as))
	}
	klog.FromContext(r.Context()).Info("Stream begins", fields...)
}

func nameOf(u user.Info) string {
	if u == nil {
		return ""
	}
	return u.GetName()
}

// resourceOf is the resource as RBAC's people write it: pods/exec, deployments.apps.
func resourceOf(info *request.RequestInfo) string {
	name := info.Resource
	if info.APIGroup != "" {
		name += "." + info.APIGroup
	}
	if info.Subresource != "" {
		name += "/" + info.Subresource
	}
	return name
}

// answerWriter counts what is written.
type answerWriter struct {
	http.ResponseWriter
	code     int
	bytes    int64
	hijacked bool
}

// Unwrap is for http.ResponseController and responsewriter.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader notes the code. An informational one is not the answer yet.
func (w *answerWriter) WriteHeader(code int) {
	if w.code == 0 && (code >= 200 || code == http.StatusSwitchingProtocols) {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write counts bytes.
func (w *answerWriter) Write(p []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Hijack hands over the connection; what goes over it is not counted.
func (w *answerWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.hijacked = true
	}
	return conn, buffer, err
}

// begun says whether the client has got a part of an answer.
func (w *answerWriter) begun() bool { return w != nil && (w.code != 0 || w.hijacked) }

// status is the code that the client got.
func (w *answerWriter) status() int {
	switch {
	case w.code != 0:
		return w.code
	case w.hijacked:
		return http.StatusSwitchingProtocols
	}
	return http.StatusOK // what the server sends for a handler that wrote nothing
}
