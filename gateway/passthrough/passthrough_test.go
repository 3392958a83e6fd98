package passthrough

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/translate"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// relay serves a relay to an API server at base.
func relay(t *testing.T, base string) string {
	t.Helper()
	parsed, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	rows := table.Keelson()
	translator := translate.New(rows)
	h := New(Options{Table: rows, Upstream: upstream.New(parsed, http.DefaultTransport), Translator: translator, Codec: codec.New(translator)})
	infos := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := infos.NewRequestInfo(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.ServeHTTP(w, r.WithContext(request.WithRequestInfo(r.Context(), info)))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// behind serves an API server.
func behind(t *testing.T, serve http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	return server.URL
}

// seen is what the API server was asked.
type seen struct {
	URI    string
	Header http.Header
	Body   string
	Length int64
}

func recorder(t *testing.T) (string, *seen) {
	t.Helper()
	var last seen
	return behind(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		last = seen{r.RequestURI, r.Header, string(body), r.ContentLength}
		w.WriteHeader(http.StatusCreated)
	}), &last
}

func send(t *testing.T, method, address string, body io.Reader, headers map[string]string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func TestCredentialsStayHere(t *testing.T) {
	server, last := recorder(t)
	send(t, http.MethodGet, relay(t, server)+"/api/v1/namespaces/a%2Fb/configmaps?x=%20y&x=z", nil, map[string]string{
		"Authorization": "Bearer secret", "Impersonate-User": "admin", "Impersonate-Extra-Scopes": "all", "Impersonate-Uid": "0",
		"X-Remote-User": "admin", "X-Remote-Extra-Scopes": "all", "Connection": "X-Hop", "X-Hop": "here", "X-Kept": "yes",
	})
	if want := "/api/v1/namespaces/a%2Fb/configmaps?x=%20y&x=z"; last.URI != want {
		t.Errorf("asked for %s, want %s", last.URI, want)
	}
	for name := range last.Header {
		if strings.HasPrefix(name, "Impersonate") || strings.HasPrefix(name, "X-Remote") || name == "Authorization" || name == "X-Hop" {
			t.Errorf("header %s was forwarded", name)
		}
	}
	if last.Header.Get("X-Kept") != "yes" {
		t.Error("another header was lost")
	}
}

func TestBodiesAreUntouchedButForOwners(t *testing.T) {
	const owners = `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"a","uid":"u"}]}}`
	stored := strings.ReplaceAll(owners, `"v1"`, `"core.keelson.dev/v1"`)
	odd := `{"b" : 1e2, "a":"ownerReferences", "n":12345678901234567890}`
	tests := map[string]struct{ method, contentType, body, want string }{
		"an owner in the table":            {"POST", "application/json", owners, stored},
		"without a content type":           {"POST", "", owners, stored},
		"one in another group":             {"POST", "application/json", strings.ReplaceAll(owners, `"v1"`, `"apps/v1"`), strings.ReplaceAll(owners, `"v1"`, `"apps/v1"`)},
		"nothing about owners":             {"POST", "application/json", `{"b" : 1}`, `{"b" : 1}`},
		"the word alone":                   {"POST", "application/json", odd, odd},
		"a body that is no JSON":           {"POST", "application/json", `{"ownerReferences`, `{"ownerReferences`},
		"a JSON patch of no owner":         {"PATCH", "application/json-patch+json", `[{"op":"add","path":"/x","value":"ownerReferences"}]`, `[{"op":"add","path":"/x","value":"ownerReferences"}]`},
		"a JSON patch of the metadata":     {"PATCH", "application/json-patch+json", `[{"op":"add","path":"/metadata","value":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod"}]}}]`, `[{"op":"add","path":"/metadata","value":{"ownerReferences":[{"apiVersion":"core.keelson.dev/v1","kind":"Pod"}]}}]`},
		"a content type of other servers":  {"POST", "application/octet-stream", "ownerReferences\x00", "ownerReferences\x00"},
		"more than any API server accepts": {"POST", "application/json", strings.Repeat("x", codec.MaxBody+10), strings.Repeat("x", codec.MaxBody+10)},
	}
	for name, test := range tests {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chunked %v", name, chunked), func(t *testing.T) {
				server, last := recorder(t)
				var body io.Reader = strings.NewReader(test.body)
				if chunked {
					body = io.MultiReader(body) // hides the length
				}
				headers := map[string]string{}
				if test.contentType != "" {
					headers["Content-Type"] = test.contentType
				}
				response := send(t, test.method, relay(t, server)+"/api/v1/namespaces/a/configmaps/x", body, headers)
				if response.StatusCode != http.StatusCreated {
					t.Fatalf("answer %s", response.Status)
				}
				if last.Body != test.want && (test.body == test.want || !sameJSON(last.Body, test.want)) {
					t.Errorf("sent %.300s, want %.300s", last.Body, test.want)
				}
				if last.Length >= 0 && last.Length != int64(len(last.Body)) {
					t.Errorf("length %d of %d bytes", last.Length, len(last.Body))
				}
			})
		}
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && cmp.Equal(x, y)
}

func TestAnswersComeAsTheyAreWritten(t *testing.T) {
	more := make(chan struct{})
	address := relay(t, behind(t, func(w http.ResponseWriter, _ *http.Request) {
		for _, part := range []string{"one\n", "two\n"} {
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
			<-more
		}
	}))
	response := send(t, http.MethodGet, address+"/api/v1/configmaps?watch=1", nil, nil)
	lines := bufio.NewReader(response.Body)
	for _, want := range []string{"one\n", "two\n"} {
		if got, err := lines.ReadString('\n'); got != want {
			t.Fatalf("read %q, %v, want %q while the answer goes on", got, err, want)
		}
		more <- struct{}{}
	}
}

func TestUpgradesAreRelayed(t *testing.T) {
	address := relay(t, behind(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" {
			t.Errorf("upgrade to %q", r.Header.Get("Upgrade"))
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, stream, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		line, _ := stream.ReadString('\n')
		_, _ = stream.WriteString("echo " + line)
		_ = stream.Flush()
	}))
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(address, "http://"), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, "GET /apis/example.com/v1/things/x/connect HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answer %v, %v", response, err)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if got, err := in.ReadString('\n'); got != "echo hello\n" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestAnAPIServerThatIsGone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + listener.Addr().String()
	listener.Close()
	for _, path := range []string{"/api/v1/configmaps", "/api/v1/events"} {
		response := send(t, http.MethodGet, relay(t, gone)+path, nil, nil)
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		var status metav1.Status
		if err := json.Unmarshal(bytes.TrimSpace(body), &status); err != nil || status.Code != http.StatusServiceUnavailable || status.Reason != metav1.StatusReasonServiceUnavailable {
			t.Errorf("%s: %d %s", path, response.StatusCode, body)
		}
	}
}
