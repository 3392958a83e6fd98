package codec

import (
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
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

func TestDecodeObject(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}, Priority: new(int32(7))}}
	encoded, err := runtime.Encode(scheme.Codecs.EncoderForVersion(protobufEncoder(), corev1.SchemeGroupVersion), pod)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		contentType, body string
		want              string
		wantDuplicates    string
		wantError         string
		wantCode          int32
	}{
		"JSON":                       {"application/json", `{"apiVersion":"v1","kind":"Pod","spec":{"priority":7}}`, `{"apiVersion":"v1","kind":"Pod","spec":{"priority":7}}`, "", "", 0},
		"without a type":             {"", `{"spec":{"priority":7}}`, `{"apiVersion":"v1","kind":"Pod","spec":{"priority":7}}`, "", "", 0},
		"with a parameter":           {"application/json; charset=utf-8", `{}`, `{"apiVersion":"v1","kind":"Pod"}`, "", "", 0},
		"null":                       {"", `null`, `{"apiVersion":"v1","kind":"Pod"}`, "", "", 0},
		"another kind":               {"", `{"apiVersion":"v2","kind":"Other"}`, `{"apiVersion":"v2","kind":"Other"}`, "", "", 0},
		"YAML":                       {"application/yaml", "spec:\n  priority: 7\n", `{"apiVersion":"v1","kind":"Pod","spec":{"priority":7}}`, "", "", 0},
		"protobuf":                   {protobufType, string(encoded), `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","resources":{}}],"priority":7},"status":{}}`, "", "", 0},
		"a name twice":               {"", `{"spec":{"priority":7,"priority":8}}`, `{"apiVersion":"v1","kind":"Pod","spec":{"priority":8}}`, `duplicate field "spec.priority"`, "", 0},
		"a name twice in YAML":       {"application/yaml", "a: 1\na: 2\n", `{"a":2,"apiVersion":"v1","kind":"Pod"}`, "key \"a\" already set in map", "", 0},
		"an empty body":              {"", ``, "", "", "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)", 400},
		"half a body":                {"", `{"apiVersion":"v1","kind":"Pod","met`, "", "", `the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input ({"apiVersion":"v1","kind":"Pod ...)`, 400},
		"an array":                   {"", `[]`, "", "", "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" } (5b5d)", 400},
		"too deep":                   {"", strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000), "", "", "exceeded max depth", 400},
		"YAML that cannot be read":   {"application/yaml", "a: [", "", "", "the object provided is unrecognized (must be of type Pod): yaml: line 1: did not find expected node content (613a205b)", 400},
		"protobuf without its magic": {protobufType, "abc", "", "", "the object provided is unrecognized (must be of type Pod): provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (616263)", 400},
		"protobuf that ends early":   {protobufType, string(encoded[:len(encoded)-20]), "", "", "unexpected EOF", 400},
		"protobuf of nothing":        {protobufType, "", "", "", "the object provided is unrecognized (must be of type Pod): empty data (<empty>)", 400},
		"protobuf of another kind":   {protobufType, strings.Replace(string(encoded), "Pod", "Pox", 1), "", "", `Pox in version "v1" cannot be handled as a Pod: no kind "Pox" is registered for version "v1"`, 400},
		"a type that nobody knows":   {"text/plain", "x", "", "", "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf", 415},
		"CBOR":                       {"application/cbor", "\xd9\xd9\xf7", "", "", "the body of the request was in an unknown format", 415},
	} {
		t.Run(name, func(t *testing.T) {
			obj, duplicates, err := newCodec().DecodeObject(test.contentType, []byte(test.body), podKind)
			if test.wantError != "" {
				status := apierrors.APIStatus(nil)
				if !errors.As(err, &status) || status.Status().Code != test.wantCode || !strings.Contains(err.Error(), test.wantError) {
					t.Fatalf("got  %v\nwant %s", err, test.wantError)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, strings.ReplaceAll(string(got), `"creationTimestamp":null,`, "")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if joined := fmt.Sprint(errors.Join(duplicates...)); (test.wantDuplicates == "") != (len(duplicates) == 0) || !strings.Contains(joined, test.wantDuplicates) {
				t.Errorf("duplicates %v", duplicates)
			}
		})
	}
}

func TestStrictError(t *testing.T) {
	for name, test := range map[string]struct{ contentType, body, want string }{
		"nothing wrong":             {"", `{"spec":{"priority":7}}`, ""},
		"an unknown and a double":   {"", `{"spec":{"colour":"x","priority":7,"priority":8}}`, `strict decoding error: unknown field "spec.colour", duplicate field "spec.priority"`},
		"in the order of the body":  {"", `{"spec":{"priority":7,"priority":8,"colour":"x"}}`, `strict decoding error: duplicate field "spec.priority", unknown field "spec.colour"`},
		"YAML":                      {"application/yaml", "spec: {priority: 7}\ncolour: 1\nspec: {priority: 8}\n", "strict decoding error: yaml: unmarshal errors:\n  line 3: key \"spec\" already set in map, unknown field \"colour\""},
		"a kind that nobody knows":  {"", `{"apiVersion":"v2","kind":"Other","a":1,"a":2}`, ""},
		"what is no object of ours": {"", `[]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := newCodec().StrictError(test.contentType, []byte(test.body), podKind); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeInto(t *testing.T) {
	optionsKind := metav1.SchemeGroupVersion.WithKind("DeleteOptions")
	grace := &metav1.DeleteOptions{GracePeriodSeconds: new(int64(3))}
	encoded, err := runtime.Encode(scheme.Codecs.EncoderForVersion(protobufEncoder(), schema.GroupVersion{Version: "v1"}), grace.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]struct{ contentType, body string }{
		"JSON of core":        {"", `{"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":3}`},
		"JSON of meta":        {"", `{"apiVersion":"meta.k8s.io/v1","kind":"DeleteOptions","gracePeriodSeconds":3}`},
		"JSON of policy":      {"", `{"apiVersion":"policy/v1","kind":"DeleteOptions","gracePeriodSeconds":3}`},
		"JSON without a kind": {"", `{"gracePeriodSeconds":3}`},
		"YAML":                {"application/yaml", "gracePeriodSeconds: 3"},
		"protobuf":            {protobufType, string(encoded)},
	} {
		t.Run(name, func(t *testing.T) {
			var got metav1.DeleteOptions
			if err := newCodec().DecodeInto(body.contentType, []byte(body.body), optionsKind, &got); err != nil {
				t.Fatal(err)
			}
			if got.GracePeriodSeconds == nil || *got.GracePeriodSeconds != 3 {
				t.Errorf("got %v", got)
			}
		})
	}
	var eviction policyv1.Eviction
	err = newCodec().DecodeInto("", []byte(`{"apiVersion":"v1","kind":"Pod"}`), policyv1.SchemeGroupVersion.WithKind("Eviction"), &eviction)
	if want := `Pod in version "v1" cannot be handled as a Eviction: converting (v1.Pod) to (v1.Eviction): unknown conversion`; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestReadBody(t *testing.T) {
	for name, test := range map[string]struct {
		body io.Reader
		want string
	}{
		"as large as allowed": {strings.NewReader(strings.Repeat("x", MaxBody)), ""},
		"a byte too much":     {strings.NewReader(strings.Repeat("x", MaxBody+1)), "Request entity too large: limit is 3145728"},
		"a broken connection": {iotest.ErrReader(errors.New("reset")), "the request's body could not be read: reset"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", test.body)
			_, err := ReadBody(r)
			if got := fmt.Sprint(err); test.want == "" && err != nil || test.want != "" && got != test.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

// FuzzDecode feeds any body in each format: what is no object is a 400, never a panic.
func FuzzDecode(f *testing.F) {
	encoded, err := runtime.Encode(scheme.Codecs.EncoderForVersion(protobufEncoder(), corev1.SchemeGroupVersion), wantPod())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	for _, seed := range []string{storedPod, "spec:\n  priority: 7\n", "&a [*a, *a]", "{", "null", "k8s\x00", "k8s\x00\x0a\xff\xff\xff\xff\x0f"} {
		f.Add([]byte(seed))
	}
	c := newCodec()
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, contentType := range []string{"application/json", "application/yaml", protobufType} {
			obj, _, err := c.DecodeObject(contentType, body, podKind)
			if err == nil && obj == nil || err != nil && !apierrors.IsBadRequest(err) {
				t.Errorf("%s: %v, %v", contentType, obj, err)
			}
			var options metav1.DeleteOptions
			if err := c.DecodeInto(contentType, body, metav1.SchemeGroupVersion.WithKind("DeleteOptions"), &options); err != nil && !apierrors.IsBadRequest(err) {
				t.Errorf("%s: %v", contentType, err)
			}
		}
	})
}
