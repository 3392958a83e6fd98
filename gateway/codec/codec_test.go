package codec

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/kubernetes/scheme"
	restwatch "k8s.io/client-go/rest/watch"

	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/translate"
)

const protobufType = "application/vnd.kubernetes.protobuf"

var podKind = corev1.SchemeGroupVersion.WithKind("Pod")

func newCodec() *Codec { return New(translate.New(table.Keelson())) }

func podRow(t *testing.T) table.Row {
	t.Helper()
	row, ok := table.Keelson().Upstream(corev1.SchemeGroupVersion.WithResource("pods"))
	if !ok {
		t.Fatal("no row of Pods")
	}
	return row
}

func get(accept string, verb string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/api/v1/pods", nil)
	r = r.WithContext(request.WithRequestInfo(r.Context(), &request.RequestInfo{Verb: verb}))
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	return r
}

func TestNegotiate(t *testing.T) {
	const all = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
	for name, test := range map[string]struct {
		accept, agent, query string
		watch                bool
		want                 string // media type, conversion, pretty
		wantUpstream         string
		wantError            string
	}{
		"nothing":                        {want: "application/json", wantUpstream: "application/json"},
		"anything":                       {accept: "*/*", want: "application/json"},
		"any application":                {accept: "application/*", want: "application/json"},
		"YAML":                           {accept: "application/yaml", want: "application/yaml", wantUpstream: "application/json"},
		"protobuf before JSON":           {accept: protobufType + ",application/json", want: protobufType, wantUpstream: "application/json"},
		"a higher quality wins":          {accept: "application/json;q=0.3, application/yaml;q=0.8", want: "application/yaml"},
		"a parameter that nobody knows":  {accept: "application/json;x=y", want: "application/json"},
		"CBOR has no alternative":        {accept: "application/cbor", wantError: all},
		"CBOR with an alternative":       {accept: "application/cbor, application/json", want: "application/json"},
		"text":                           {accept: "text/html", wantError: all},
		"a Table":                        {accept: "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", want: "application/json Table", wantUpstream: "application/json;as=Table;v=v1;g=meta.k8s.io"},
		"a Table in YAML":                {accept: "application/yaml;as=Table;v=v1;g=meta.k8s.io", want: "application/yaml Table", wantUpstream: "application/json;as=Table;v=v1;g=meta.k8s.io"},
		"a Table has no protobuf":        {accept: protobufType + ";as=Table;v=v1;g=meta.k8s.io", wantError: all},
		"but a next choice":              {accept: protobufType + ";as=Table;v=v1;g=meta.k8s.io, application/json;as=Table;v=v1beta1;g=meta.k8s.io", want: "application/json Table"},
		"metadata in protobuf":           {accept: protobufType + ";as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", want: protobufType + " PartialObjectMetadataList", wantUpstream: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"},
		"another conversion":             {accept: "application/json;as=Other;v=v1;g=meta.k8s.io", wantError: all},
		"of another group":               {accept: "application/json;as=Table;v=v1;g=x", wantError: all},
		"curl":                           {agent: "curl/8", want: "application/json pretty", wantUpstream: "application/json;pretty=1"},
		"curl that does not want it":     {agent: "curl/8", query: "?pretty=false", want: "application/json"},
		"pretty":                         {query: "?pretty=1", want: "application/json pretty"},
		"a watch":                        {watch: true, want: "application/json"},
		"a watch in protobuf":            {accept: protobufType + ";stream=watch", watch: true, want: protobufType},
		"a watch in YAML":                {accept: "application/yaml", watch: true, wantError: "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"},
		"YAML first, which is no stream": {accept: "application/yaml, application/json", watch: true, wantError: "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"},
		"a stream that is no watch":      {accept: "application/json;stream=x", wantError: all},
		"an empty clause":                {accept: ",", wantError: all},
		"no clause that can be read":     {accept: "/;;q=,=", wantError: all},
	} {
		t.Run(name, func(t *testing.T) {
			r := get(test.accept, "list")
			r.URL.RawQuery = strings.TrimPrefix(test.query, "?")
			r.Header.Set("User-Agent", test.agent)
			format, err := newCodec().Negotiate(r, test.watch)
			if test.wantError != "" {
				status := apierrors.APIStatus(nil)
				if !errors.As(err, &status) || status.Status().Code != http.StatusNotAcceptable || status.Status().Message != test.wantError {
					t.Fatalf("got %v, want 406: %s", err, test.wantError)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := format.MediaType
			if format.Convert != nil {
				got += " " + format.Convert.Kind
			}
			if format.Pretty {
				got += " pretty"
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if test.wantUpstream != "" && format.UpstreamAccept() != test.wantUpstream {
				t.Errorf("asks the API server for %s, want %s", format.UpstreamAccept(), test.wantUpstream)
			}
		})
	}
}

const (
	storedPod  = `{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a","finalizers":["keelson.dev/pod"]},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"500m"}}}]},"status":{"phase":"Running","qosClass":"Burstable","summary":{"ready":"1/1"}}}`
	storedList = `{"apiVersion":"core.keelson.dev/v1","items":[` + storedPod + `,` + storedPod + `],"kind":"PodList","metadata":{"continue":"more","resourceVersion":"7"}}`
	tableOfOne = `{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7"},"columnDefinitions":[],"rows":[{"cells":["a"],"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a","finalizers":["keelson.dev/pod"]}}}]}`
	storedFail = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods.core.keelson.dev \"x\" not found","reason":"NotFound","details":{"name":"x","group":"core.keelson.dev","kind":"pods"},"code":404}`
	partials   = `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7"},"items":[{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a","finalizers":["keelson.dev/pod"]}}]}`
)

func answer(code int, body string) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}, "Warning": {`299 - "careful"`}}, Body: io.NopCloser(strings.NewReader(body))}
}

func wantPod() *corev1.Pod {
	pod := &corev1.Pod{}
	if err := json.Unmarshal([]byte(strings.NewReplacer("core.keelson.dev/v1", "v1", `,"finalizers":["keelson.dev/pod"]`, "").Replace(storedPod)), pod); err != nil {
		panic(err)
	}
	return pod
}

// TestWriteAnswer reads each answer back with client-go's decoders.
func TestWriteAnswer(t *testing.T) {
	pod := wantPod()
	item := *pod
	item.TypeMeta = metav1.TypeMeta{}
	list := &corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: "7", Continue: "more"}, Items: []corev1.Pod{item, item}}
	notFound := &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Message: `pods "x" not found`, Reason: "NotFound", Details: &metav1.StatusDetails{Name: "x", Kind: "pods"}, Code: 404}
	for _, accept := range []string{"application/json", "application/yaml", protobufType} {
		for name, test := range map[string]struct {
			code         int
			verb, stored string
			want         runtime.Object
		}{
			"an object":                      {200, "get", storedPod, pod},
			"a list":                         {200, "list", storedList, list},
			"a list that nobody announced":   {200, "get", storedList, list},
			"an error":                       {404, "get", storedFail, notFound},
			"an error instead of a list":     {404, "list", storedFail, notFound},
			"the collection of a deletion":   {200, "deletecollection", storedList, list},
			"an object that was created now": {201, "create", storedPod, pod},
		} {
			t.Run(name+" as "+accept, func(t *testing.T) {
				c, r, w := newCodec(), get(accept, test.verb), httptest.NewRecorder()
				format, err := c.Negotiate(r, false)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.WriteAnswer(w, r, format, podRow(t), answer(test.code, test.stored)); err != nil {
					t.Fatal(err)
				}
				if w.Code != test.code || w.Header().Get("Content-Type") != accept || w.Header().Get("Warning") == "" {
					t.Errorf("got %d %v", w.Code, w.Header())
				}
				got, _, err := scheme.Codecs.UniversalDeserializer().Decode(w.Body.Bytes(), nil, nil)
				if err != nil {
					t.Fatalf("%v in %q", err, w.Body)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestWriteMetadataInProtobuf(t *testing.T) {
	c, r, w := newCodec(), get(protobufType+";as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "list"), httptest.NewRecorder()
	format, err := c.Negotiate(r, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WriteAnswer(w, r, format, podRow(t), answer(200, partials)); err != nil {
		t.Fatal(err)
	}
	var unknown runtime.Unknown
	if err := unknown.Unmarshal(bytes.TrimPrefix(w.Body.Bytes(), magic)); err != nil {
		t.Fatal(err)
	}
	var got metav1.PartialObjectMetadataList
	if err := got.Unmarshal(unknown.Raw); err != nil {
		t.Fatal(err)
	}
	want := metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: "7"}, Items: []metav1.PartialObjectMetadata{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := (runtime.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}); unknown.TypeMeta != want {
		t.Errorf("got %v", unknown.TypeMeta)
	}
}

// TestProtobufListEqualsUpstream compares the bytes with those of the library.
func TestProtobufListEqualsUpstream(t *testing.T) {
	for name, count := range map[string]int{"none": 0, "one": 1, "more than a chunk holds": 5000} {
		t.Run(name, func(t *testing.T) {
			want := &corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: "7"}}
			var stored []string
			for i := range count {
				pod := wantPod()
				pod.TypeMeta, pod.Name = metav1.TypeMeta{}, fmt.Sprint("pod-", i)
				want.Items = append(want.Items, *pod)
				stored = append(stored, strings.Replace(storedPod, `"name":"a"`, `"name":"`+pod.Name+`"`, 1))
			}
			body := `{"metadata":{"resourceVersion":"7"},"items":[` + strings.Join(stored, ",") + `],"kind":"PodList","apiVersion":"core.keelson.dev/v1"}`
			c, r, w := newCodec(), get(protobufType, "list"), httptest.NewRecorder()
			if err := c.WriteAnswer(w, r, Format{MediaType: protobufType}, podRow(t), answer(200, body)); err != nil {
				t.Fatal(err)
			}
			encoded, err := runtime.Encode(protobufEncoder(), want)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(encoded, w.Body.Bytes()) {
				t.Errorf("%d bytes differ from upstream's %d", w.Body.Len(), len(encoded))
			}
		})
	}
}

func TestWriteTable(t *testing.T) {
	for _, accept := range []string{"application/json", "application/yaml"} {
		c, r, w := newCodec(), get(accept+";as=Table;v=v1;g=meta.k8s.io", "list"), httptest.NewRecorder()
		format, err := c.Negotiate(r, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.WriteAnswer(w, r, format, podRow(t), answer(200, tableOfOne)); err != nil {
			t.Fatal(err)
		}
		if body := w.Body.String(); strings.Contains(body, "keelson.dev/pod") || !strings.Contains(body, "Table") {
			t.Errorf("%s: got %s", accept, body)
		}
	}
}

func TestWriteTreeConverts(t *testing.T) {
	tree := map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "a", "creationTimestamp": "2026-01-02T03:04:05Z", "resourceVersion": "7"}, "spec": map[string]any{}}
	for accept, want := range map[string]string{
		"application/json": `{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2026-01-02T03:04:05Z","name":"a","resourceVersion":"7"},"spec":{}}`,
		"application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io":     `{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"creationTimestamp":"2026-01-02T03:04:05Z","name":"a","resourceVersion":"7"}}`,
		"application/json;as=Table;v=v1;g=meta.k8s.io":                     `{"apiVersion":"meta.k8s.io/v1","columnDefinitions":[{"description":"The name of the object.","format":"name","name":"Name","priority":0,"type":"string"},{"description":"When the object was created.","format":"","name":"Created At","priority":0,"type":"date"}],"kind":"Table","metadata":{"resourceVersion":"7"},"rows":[{"cells":["a","2026-01-02T03:04:05Z"],"object":{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"creationTimestamp":"2026-01-02T03:04:05Z","name":"a","resourceVersion":"7"}}}]}`,
		"application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io": `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf","reason":"NotAcceptable","code":406}`,
	} {
		c, r, w := newCodec(), get(accept, "update"), httptest.NewRecorder()
		format, err := c.Negotiate(r, false)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.WriteTree(w, r, format, 200, tree)
		if diff := cmp.Diff(want, strings.TrimSpace(compact(t, w.Body.Bytes()))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", accept, diff)
		}
	}
}

func compact(t *testing.T, text []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return out.String()
}

func TestCompression(t *testing.T) {
	big := strings.Replace(storedPod, `"image":"i"`, `"image":"`+strings.Repeat("x", compressFrom)+`"`, 1)
	for name, test := range map[string]struct {
		body, encodings string
		want            bool
	}{
		"a small answer is not compressed":                 {storedPod, "gzip", false},
		"a big one is":                                     {big, "deflate, gzip", true},
		"but not for a client that does not read gzip":     {big, "deflate", false},
		"nor for one that says nothing about it":           {big, "", false},
		"a list that is big through its items is, as well": {`{"kind":"PodList","apiVersion":"core.keelson.dev/v1","items":[` + strings.Repeat(storedPod+",", 1000) + storedPod + `]}`, "gzip", true},
	} {
		t.Run(name, func(t *testing.T) {
			c, r, w := newCodec(), get("", "get"), httptest.NewRecorder()
			r.Header.Set("Accept-Encoding", test.encodings)
			if err := c.WriteAnswer(w, r, Format{MediaType: runtime.ContentTypeJSON}, podRow(t), answer(200, test.body)); err != nil {
				t.Fatal(err)
			}
			if got := w.Header().Get("Content-Encoding") == "gzip"; got != test.want {
				t.Fatalf("compressed: %v", got)
			}
			var body io.Reader = w.Body
			if test.want {
				var err error
				if body, err = gzip.NewReader(w.Body); err != nil {
					t.Fatal(err)
				}
			}
			raw, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			if !json.Valid(raw) || bytes.Contains(raw, []byte("keelson.dev/pod")) {
				t.Errorf("not a translated answer: %.100q", raw)
			}
		})
	}
}

// TestBrokenAnswer: what fails before the first byte is an error in the client's
// format, what fails later breaks the connection.
func TestBrokenAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		answer    *http.Response
		wantCode  int
		wantAbort bool
	}{
		"the API server ends in the middle of an object": {answer: answer(200, storedPod[:60]), wantCode: 500},
		"or breaks off":                     {answer: &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(io.MultiReader(strings.NewReader(storedList[:300]), iotest.ErrReader(errors.New("gone"))))}, wantCode: 500},
		"or in the middle of a long list":   {answer: answer(200, `{"kind":"PodList","items":[`+strings.Repeat(storedPod+",", 1000)), wantAbort: true},
		"something that is no API server":   {answer: &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader("<html>"))}, wantCode: 500},
		"a proxy in between that is broken": {answer: &http.Response{StatusCode: http.StatusBadGateway, Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader("bad gateway"))}, wantCode: 502},
	} {
		t.Run(name, func(t *testing.T) {
			c, r, w := newCodec(), get("", "list"), httptest.NewRecorder()
			defer func() {
				aborted, _ := recover().(error)
				if errors.Is(aborted, http.ErrAbortHandler) != test.wantAbort {
					t.Fatalf("aborted with %v", aborted)
				}
				if test.wantAbort {
					return
				}
				var status metav1.Status
				if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil || status.Kind != "Status" || w.Code != test.wantCode || int(status.Code) != test.wantCode {
					t.Errorf("got %d %s", w.Code, w.Body)
				}
			}()
			if err := c.WriteAnswer(w, r, Format{MediaType: runtime.ContentTypeJSON}, podRow(t), test.answer); err == nil {
				t.Error("no error to log")
			}
		})
	}
}

func TestWriteWatch(t *testing.T) {
	frames := `{"type":"ADDED","object":` + storedPod + "}\n" +
		`{"object":` + storedPod + `,"type":"MODIFIED"}` + "\n" +
		`{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"core.keelson.dev/v1","metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}` + "\n" +
		`{"type":"ERROR","object":` + storedFail + "}\n"
	bookmark := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{ResourceVersion: "9", Annotations: map[string]string{"k8s.io/initial-events-end": "true"}}}
	for _, accept := range []string{"application/json", protobufType + ";stream=watch"} {
		t.Run(accept, func(t *testing.T) {
			c, r, w := newCodec(), get(accept, "watch"), httptest.NewRecorder()
			format, err := c.Negotiate(r, true)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.WriteWatch(w, r, format, podRow(t), answer(200, frames)); err != nil {
				t.Fatal(err)
			}
			if w.Header().Get("Content-Type") != accept || !w.Flushed {
				t.Errorf("got %v, flushed %v", w.Header(), w.Flushed)
			}
			info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), format.MediaType)
			reader := info.StreamSerializer.Framer.NewFrameReader(io.NopCloser(w.Body))
			decoder := restwatch.NewDecoder(streaming.NewDecoder(reader, info.StreamSerializer.Serializer), scheme.Codecs.UniversalDeserializer())
			for i, want := range []watch.Event{{Type: watch.Added, Object: wantPod()}, {Type: watch.Modified, Object: wantPod()}, {Type: watch.Bookmark, Object: bookmark}} {
				kind, obj, err := decoder.Decode()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, watch.Event{Type: kind, Object: obj}); diff != "" {
					t.Errorf("frame %d (-want +got):\n%s", i, diff)
				}
			}
			kind, obj, err := decoder.Decode()
			if status, ok := obj.(*metav1.Status); err != nil || kind != watch.Error || !ok || status.Message != `pods "x" not found` {
				t.Errorf("got %v %v %v", kind, obj, err)
			}
			if _, _, err := decoder.Decode(); !errors.Is(err, io.EOF) {
				t.Errorf("after the last frame: %v", err)
			}
		})
	}
}

// TestWatchFlushes: each frame arrives while the API server's stream stays open.
func TestWatchFlushes(t *testing.T) {
	feed, sender := io.Pipe()
	c := newCodec()
	row := podRow(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = c.WriteWatch(w, r, Format{MediaType: runtime.ContentTypeJSON, Watch: true}, row, &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: feed})
	}))
	defer server.Close()
	defer func() { _ = sender.Close() }()
	response, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(response.Body)
	for i := range 3 {
		if _, err := fmt.Fprintf(sender, `{"type":"ADDED","object":%s}`+"\n", storedPod); err != nil {
			t.Fatal(err)
		}
		var event struct{ Type string }
		if err := decoder.Decode(&event); err != nil || event.Type != "ADDED" {
			t.Fatalf("frame %d: %v %v", i, event, err)
		}
	}
}

func TestWriteError(t *testing.T) {
	tooMany := apierrors.NewTooManyRequests("wait", 7)
	for name, test := range map[string]struct {
		err              error
		accept           string
		wantCode         int
		wantType, wantIn string
	}{
		"an API error":            {apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "x"), "", 404, "application/json", `pods \"x\" not found`},
		"one that was wrapped":    {fmt.Errorf("get: %w", apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "x")), "", 404, "application/json", `"message":"pods \"x\" not found"`},
		"any other":               {errors.New("boom"), "", 500, "application/json", "Internal error occurred: boom"},
		"in YAML":                 {tooMany, "application/yaml", 429, "application/yaml", "kind: Status"},
		"in protobuf":             {tooMany, protobufType, 429, protobufType, "k8s\x00"},
		"in a format of no kind":  {tooMany, "text/html", 429, "application/json", `"kind": "Status"`},
		"in a Table, which it is": {tooMany, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", 429, "application/json", `"kind":"Status"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			newCodec().WriteError(w, get(test.accept, "get"), test.err)
			if w.Code != test.wantCode || w.Header().Get("Content-Type") != test.wantType || !strings.Contains(w.Body.String(), test.wantIn) {
				t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
			}
			if errors.Is(test.err, tooMany) && w.Header().Get("Retry-After") != "7" {
				t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
			}
		})
	}
}
