package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// serveLog relays the log of one container.
func (h *handler) serveLog(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) error {
	options, err := logOptions(r.URL.Query())
	if err != nil {
		return err
	}
	if errs := validateLogOptions(options); len(errs) > 0 {
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), info.Name, errs)
	}
	pod, err := h.pod(r.Context(), info.Namespace, info.Name)
	if err != nil {
		return err
	}
	container, err := chooseContainer(pod, options.Container)
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		// Nothing can have been logged; an API server answers with no content.
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	agent, err := h.Nodes.Locate(r.Context(), pod.Spec.NodeName)
	if err != nil {
		return err
	}
	location := agent.URL("/containerLogs/"+pod.Namespace+"/"+pod.Name+"/"+container, logQuery(options))
	transport := agent.Transport()
	if options.InsecureSkipTLSVerifyBackend {
		transport = agent.UnverifiedTransport()
	}
	log, err := openLog(r.Context(), transport, location, info.Name)
	if err != nil {
		return err
	}
	defer log.Close()
	copyLog(w, r, log, options.Follow)
	return nil
}

// validateLogOptions repeats upstream's ValidatePodLogOptions.
func validateLogOptions(options *corev1.PodLogOptions) field.ErrorList {
	var errs field.ErrorList
	if options.TailLines != nil && *options.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *options.TailLines, "must be greater than or equal to 0"))
	}
	if options.LimitBytes != nil && *options.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *options.LimitBytes, "must be greater than 0"))
	}
	switch {
	case options.SinceSeconds != nil && options.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case options.SinceSeconds != nil && *options.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *options.SinceSeconds, "must be greater than 0"))
	}
	if options.Stream == nil {
		return errs
	}
	switch *options.Stream {
	case corev1.LogStreamAll:
	case corev1.LogStreamStdout, corev1.LogStreamStderr:
		if options.TailLines != nil {
			errs = append(errs, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
		}
	default:
		errs = append(errs, field.NotSupported(field.NewPath("stream"), *options.Stream,
			[]string{corev1.LogStreamAll, corev1.LogStreamStderr, corev1.LogStreamStdout}))
	}
	return errs
}

// logQuery is how an agent is told of the options.
func logQuery(options *corev1.PodLogOptions) url.Values {
	query := url.Values{}
	for name, set := range map[string]bool{"follow": options.Follow, "previous": options.Previous, "timestamps": options.Timestamps} {
		if set {
			query.Set(name, "true")
		}
	}
	for name, number := range map[string]*int64{"sinceSeconds": options.SinceSeconds, "tailLines": options.TailLines, "limitBytes": options.LimitBytes} {
		if number != nil {
			query.Set(name, strconv.FormatInt(*number, 10))
		}
	}
	if options.SinceTime != nil {
		query.Set("sinceTime", options.SinceTime.Format(time.RFC3339))
	}
	if options.Stream != nil {
		query.Set("stream", *options.Stream)
	}
	return query
}

// openLog returns the body of the agent's answer. What the agent refuses is refused in
// its words.
func openLog(ctx context.Context, transport http.RoundTripper, location *url.URL, pod string) (io.ReadCloser, error) {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("make the request to the node agent: %w", err))
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects forbidden") },
	}
	response, err := client.Do(ask)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusOK && response.StatusCode <= http.StatusPartialContent {
		return response.Body, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxErrorBody))
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("read the node agent's answer: %w", err))
	}
	switch message := string(body); response.StatusCode {
	case http.StatusInternalServerError:
		return nil, apierrors.NewInternalError(errors.New(message))
	case http.StatusBadRequest:
		return nil, apierrors.NewBadRequest(message)
	default:
		return nil, apierrors.NewGenericServerResponse(response.StatusCode, "", corev1.Resource("pods/log"), pod, message, 0, false)
	}
}

// copyLog writes the log out, over a WebSocket where the client asked for one. A log
// that breaks off on the agent's side breaks off on the client's, too: a clean end would
// say that this was all.
func copyLog(w http.ResponseWriter, r *http.Request, log io.ReadCloser, follow bool) {
	logger := klog.FromContext(r.Context())
	if wsstream.IsWebSocketRequest(r) {
		reader := wsstream.NewReader(log, true, wsstream.NewDefaultReaderProtocols())
		if err := reader.Copy(w, r); err != nil {
			logger.V(2).Info("Stopped relaying a log over a WebSocket", "path", r.URL.Path, "err", err)
		}
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	controller := http.NewResponseController(w)
	if err := controller.Flush(); err != nil { // the client is to see the headers before the first line
		return
	}
	out := io.Writer(w)
	if follow {
		out = flushing{w, controller}
	}
	source := &broken{Reader: log}
	_, err := io.Copy(out, source)
	if err == nil || r.Context().Err() != nil {
		return
	}
	logger.V(2).Info("Stopped relaying a log", "path", r.URL.Path, "err", err)
	if source.err != nil {
		panic(http.ErrAbortHandler)
	}
}

// flushing sends what is written at once.
type flushing struct {
	io.Writer
	controller *http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.controller.Flush()
	}
	return n, err
}

// broken remembers how reading failed.
type broken struct {
	io.Reader
	err error
}

func (b *broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}
