package resources

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	upstreamautoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/gateway/autoscalingv1"
	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/table"
)

// An older version of a row, that is autoscaling/v1, is served by the row itself: the
// request is asked again in the stored version, and objects are converted on both ways.

// serveOlder answers a request on a version that is not the row's.
func (h *Handler) serveOlder(w http.ResponseWriter, r *http.Request, info *request.RequestInfo, row table.Row) {
	o := &olderCall{Handler: h, w: w, r: r, info: info, row: row, kind: schema.GroupVersionKind{Group: info.APIGroup, Version: info.APIVersion, Kind: row.Kind}}
	var err error
	switch {
	case info.Verb == "watch":
		err = o.watch()
	case info.Verb == "patch" && types.PatchType(codec.MediaType(r)) != types.ApplyYAMLPatchType:
		err = o.patch()
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		err = o.write()
	default:
		err = o.relay(r.Body)
	}
	if err != nil {
		h.codec.WriteError(w, r, err)
	}
}

// olderCall is one request on an older version.
type olderCall struct {
	*Handler

	w    http.ResponseWriter
	r    *http.Request
	info *request.RequestInfo
	row  table.Row
	// kind is the one that the client knows.
	kind schema.GroupVersionKind
}

// inner is the same request on the row's version. An answer is wanted in JSON, as a Table
// or as metadata where the client wants that.
func (o *olderCall) inner(body io.Reader, accept string) (*http.Request, *request.RequestInfo) {
	info := *o.info
	info.APIVersion = o.row.Upstream.Version
	from, to := "/"+o.kind.GroupVersion().String()+"/", "/"+o.row.Upstream.GroupVersion().String()+"/"
	info.Path = strings.Replace(info.Path, from, to, 1)
	r := o.r.Clone(request.WithRequestInfo(o.r.Context(), &info))
	location := *o.r.URL
	location.Path, location.RawPath = info.Path, ""
	r.URL = &location
	r.Header.Set("Accept", accept)
	r.Header.Del("Accept-Encoding")
	r.Body, r.ContentLength = io.NopCloser(body), -1
	return r, &info
}

// write converts an object, or what a client applies of one, and sends it on.
func (o *olderCall) write() error {
	body, err := codec.ReadBody(o.r)
	if err != nil {
		return err
	}
	apply := o.info.Verb == "patch" || codec.MediaType(o.r) == string(types.ApplyYAMLPatchType)
	contentType := o.r.Header.Get("Content-Type")
	if apply {
		contentType = runtime.ContentTypeYAML
	}
	if o.r.URL.Query().Get("fieldValidation") == "Strict" {
		if err := o.codec.StrictError(contentType, body, o.kind); err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	object, _, err := o.codec.DecodeObject(contentType, body, o.kind)
	if err != nil {
		return err
	}
	if got := object["apiVersion"]; got != o.kind.GroupVersion().String() {
		version, _ := got.(string)
		return apierrors.NewBadRequest("the API version in the data (" + version + ") does not match the expected API version (" + o.kind.GroupVersion().String() + ")")
	}
	if !apply {
		if err := fits(object); err != nil {
			return apierrors.NewBadRequest(o.kind.Kind + " in version \"" + o.kind.Version + "\" cannot be handled as a " + o.kind.Kind + ": " + err.Error())
		}
	}
	converted, err := autoscalingv1.ToV2(object, !apply)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	encoded, err := encodeTree(converted)
	if err != nil {
		return err
	}
	if apply {
		o.r.Header.Set("Content-Type", string(types.ApplyYAMLPatchType))
	} else {
		o.r.Header.Set("Content-Type", runtime.ContentTypeJSON)
	}
	return o.relay(bytes.NewReader(encoded))
}

// fits says whether an object has the types of its version.
func fits(object map[string]any) error {
	encoded, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return json.Unmarshal(encoded, &upstreamautoscalingv1.HorizontalPodAutoscaler{})
}

// relay asks in the row's version and converts the answer.
func (o *olderCall) relay(body io.Reader) error {
	format, err := o.codec.Negotiate(o.r, false)
	if err != nil {
		return err
	}
	r, _ := o.inner(body, format.UpstreamAccept())
	answer := httptest.NewRecorder()
	o.ServeHTTP(answer, r)
	return o.answer(format, answer)
}

func (o *olderCall) answer(format codec.Format, answer *httptest.ResponseRecorder) error {
	var object map[string]any
	if err := utiljson.Unmarshal(answer.Body.Bytes(), &object); err != nil {
		return apierrors.NewInternalError(err)
	}
	for name, values := range answer.Header() {
		if name != "Content-Type" && name != "Content-Length" {
			o.w.Header()[name] = values
		}
	}
	converted, err := fromRow(object)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if format.Convert != nil {
		format.Convert = nil // the answer is of that kind already
	}
	return o.codec.WriteTree(o.w, o.r, format, answer.Code, converted)
}

// patch applies a patch to the object as the client knows it.
func (o *olderCall) patch() error {
	format, err := o.codec.Negotiate(o.r, false)
	if err != nil {
		return err
	}
	r, info := o.inner(o.r.Body, runtime.ContentTypeJSON)
	answer := httptest.NewRecorder()
	c := o.newCall(answer, r, info, o.row)
	if c.route() == nil {
		return c.unserved()
	}
	p, err := c.readPatch()
	if err != nil {
		return err
	}
	patched, code, err := c.modify(func(live map[string]any) (map[string]any, error) {
		if err := c.translator.ToUpstream(live); err != nil {
			return nil, err
		}
		shown, err := autoscalingv1.FromV2(live)
		if err != nil {
			return nil, err
		}
		next, err := applyPatch(p, shown, &upstreamautoscalingv1.HorizontalPodAutoscaler{})
		if err != nil {
			return nil, err
		}
		converted, err := autoscalingv1.ToV2(next, true)
		if err != nil {
			return nil, err
		}
		return converted, c.translator.ToStored(c.row, converted)
	})
	if err != nil {
		return err
	}
	if err := c.writeStored(code, patched); err != nil {
		return err
	}
	return o.answer(format, answer)
}

// fromRow converts an answer: an object, a list, a Table, or what is none of them.
func fromRow(object map[string]any) (map[string]any, error) {
	convert := func(list any, in func(map[string]any) (map[string]any, error)) error {
		items, _ := list.([]any)
		for i, item := range items {
			if item, ok := item.(map[string]any); ok {
				converted, err := in(item)
				if err != nil {
					return err
				}
				items[i] = converted
			}
		}
		return nil
	}
	switch object["kind"] {
	case autoscalingv1.Kind:
		return autoscalingv1.FromV2(object)
	case autoscalingv1.Kind + "List":
		object["apiVersion"] = upstreamautoscalingv1.SchemeGroupVersion.String()
		return object, convert(object["items"], autoscalingv1.FromV2)
	case "Table":
		return object, convert(object["rows"], func(row map[string]any) (map[string]any, error) {
			if shown, ok := row["object"].(map[string]any); ok && shown["kind"] == autoscalingv1.Kind {
				converted, err := autoscalingv1.FromV2(shown)
				row["object"] = converted
				return row, err
			}
			return row, nil
		})
	}
	return object, nil
}

// watch converts a stream frame by frame. It is in JSON; clients that take nothing else
// than protobuf are refused.
func (o *olderCall) watch() error {
	var kept []string
	for part := range strings.SplitSeq(strings.Join(o.r.Header.Values("Accept"), ","), ",") {
		if !strings.Contains(part, "protobuf") {
			kept = append(kept, part)
		}
	}
	plain := o.r.Clone(o.r.Context())
	plain.Header.Set("Accept", strings.Join(kept, ","))
	if len(kept) == 0 {
		plain.Header.Set("Accept", o.r.Header.Get("Accept"))
	}
	format, err := o.codec.Negotiate(plain, true)
	if err != nil {
		return err
	}
	if format.MediaType != runtime.ContentTypeJSON {
		return apierrors.NewGenericServerResponse(http.StatusNotAcceptable, "", schema.GroupResource{}, "",
			"only the following media types are accepted: application/json, application/json;stream=watch", 0, false)
	}
	r, _ := o.inner(http.NoBody, format.UpstreamAccept())
	o.ServeHTTP(&frames{ResponseWriter: o.w}, r)
	return nil
}

// frames converts the frames of a watch on their way, which are lines of JSON.
type frames struct {
	http.ResponseWriter

	rest []byte
	code int
}

// Unwrap lets http.ResponseController reach the connection.
func (f *frames) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// Flush implements http.Flusher.
func (f *frames) Flush() {
	_ = http.NewResponseController(f.ResponseWriter).Flush()
}

// WriteHeader implements http.ResponseWriter.
func (f *frames) WriteHeader(code int) {
	f.code = code
	f.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (f *frames) Write(p []byte) (int, error) {
	if f.code != 0 && f.code != http.StatusOK {
		return f.ResponseWriter.Write(p)
	}
	f.rest = append(f.rest, p...)
	for {
		line, rest, whole := bytes.Cut(f.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		converted, err := convertFrame(line)
		if err != nil {
			return 0, err
		}
		if _, err := f.ResponseWriter.Write(append(converted, '\n')); err != nil {
			return 0, err
		}
		f.rest = bytes.Clone(rest)
	}
}

func convertFrame(line []byte) ([]byte, error) {
	var frame map[string]any
	if err := utiljson.Unmarshal(line, &frame); err != nil {
		return nil, err
	}
	if object, ok := frame["object"].(map[string]any); ok {
		converted, err := fromRow(object)
		if err != nil {
			return nil, err
		}
		if converted["kind"] == autoscalingv1.Kind {
			converted["apiVersion"] = upstreamautoscalingv1.SchemeGroupVersion.String()
		}
		frame["object"] = converted
	}
	return encodeTree(frame)
}
