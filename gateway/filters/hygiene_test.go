package filters

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

// front is the filters in front of a handler that remembers what came through, as a
// real server.
type front struct {
	*httptest.Server
	logs ktesting.Underlier

	mu      sync.Mutex
	reached []string // method, path, length of the body
	bodies  []string
}

func newFront(t *testing.T, handle http.HandlerFunc) *front {
	t.Helper()
	f := &front{}
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true), ktesting.Verbosity(0)))
	f.logs = logger.GetSink().(ktesting.Underlier)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		f.mu.Lock()
		f.reached = append(f.reached, r.Method+" "+r.URL.Path)
		f.bodies = append(f.bodies, string(body))
		f.mu.Unlock()
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		if handle != nil {
			handle(w, r)
		}
	})
	f.Server = httptest.NewUnstartedServer(Chain(handler, Options{NewID: func() types.UID { return "made" }}))
	f.Config.BaseContext = func(net.Listener) context.Context {
		return klog.NewContext(context.WithoutCancel(t.Context()), logger)
	}
	f.Start()
	t.Cleanup(f.Close)
	return f
}

func (f *front) seen() ([]string, []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reached, f.bodies
}

// send writes a request as it stands and returns the first answer.
func (f *front) send(t *testing.T, raw string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer
}

func TestWhatNoClientSendsIsRefusedLoggedAndNotForwarded(t *testing.T) {
	tests := map[string]struct {
		request string
		// wantCode is 400 unless given; net/http answers some by itself, without a line.
		wantCode int
		byParser bool
		wantBody string
	}{
		"dots that climb":                       {request: "GET /api/v1/namespaces/../secrets HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "leads out of its folder"},
		"dots that climb, encoded":              {request: "GET /api/v1/namespaces/%2e%2e/secrets HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "leads out of its folder"},
		"dots that climb, half encoded":         {request: "GET /api/v1/namespaces/.%2E/secrets HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "leads out of its folder"},
		"dots that climb, encoded twice":        {request: "GET /api/v1/namespaces/%252e%252e/secrets HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "encoded twice"},
		"dots that climb out of a proxied Pod":  {request: "GET /api/v1/namespaces/a/pods/b/proxy/x/%2e%2e/y HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "leads out of its folder"},
		"dots behind hidden slashes in a proxy": {request: "GET /api/v1/nodes/b/proxy/x%2f..%2f..%2fpods HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "leads out of its folder"},
		"a single dot":                          {request: "GET /api/./v1/pods HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "leads out of its folder"},
		"double slashes":                        {request: "GET /api/v1//pods HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "empty segment"},
		"double slashes at the beginning":       {request: "GET //api/v1/pods HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "empty segment"},
		"a hidden slash":                        {request: "GET /api/v1/namespaces/a%2Fpods%2Fb HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "hides a slash"},
		"a hidden backslash":                    {request: "GET /api/v1/namespaces/a%5c..%5cb HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "hides a slash"},
		"a NUL":                                 {request: "GET /api/v1/namespaces/a%00b HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "control character"},
		"a line break":                          {request: "GET /api/v1/namespaces/a%0d%0aX:1 HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "control character"},
		"a NUL in a proxied path":               {request: "GET /api/v1/nodes/b/proxy/a%00 HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "control character"},
		"another server in the request line":    {request: "GET http://other/api/v1/pods HTTP/1.1\r\nHost: x\r\n\r\n", wantBody: "not an absolute path"},
		"a tunnel":                              {request: "CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n", wantBody: "not an absolute path"},
		"no path":                               {request: "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", byParser: true, wantCode: 200},
		"a broken escape":                       {request: "GET /api/v1/%zz HTTP/1.1\r\nHost: x\r\n\r\n", byParser: true},
		"an identity from a proxy":              {request: "GET /api HTTP/1.1\r\nHost: x\r\nX-Remote-User: admin\r\n\r\n", wantBody: "X-Remote-User is not accepted"},
		"an identity from a proxy, written otherwise": {
			request: "GET /api HTTP/1.1\r\nHost: x\r\nx-rEmOte-group: system:masters\r\n\r\n", wantBody: "not accepted",
		},
		"an identity with underscores":        {request: "GET /api HTTP/1.1\r\nHost: x\r\nX_Remote_User: admin\r\n\r\n", wantBody: "not accepted"},
		"impersonation with underscores":      {request: "GET /api HTTP/1.1\r\nHost: x\r\nImpersonate_User: admin\r\n\r\n", wantBody: "not accepted"},
		"impersonation of two users":          {request: "GET /api HTTP/1.1\r\nHost: x\r\nImpersonate-User: a\r\nImpersonate-User: b\r\n\r\n", wantBody: "2 times"},
		"two tokens":                          {request: "GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", wantBody: "2 times"},
		"a header that the next shall remove": {request: "GET /api HTTP/1.1\r\nHost: x\r\nConnection: close, Impersonate-User\r\n\r\n", wantBody: "no header of a single connection"},
		"two lengths":                         {request: "POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", byParser: true},
		"an unknown transfer encoding":        {request: "POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", byParser: true, wantCode: 501},
		"two transfer encodings":              {request: "POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", byParser: true, wantCode: 501},
		"a space before the colon":            {request: "POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", byParser: true},
		"a body that says that it is too long": {
			request: fmt.Sprintf("POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", MaxBody+1), wantCode: 413, wantBody: "Request entity too large: limit is 3145728",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, nil)
			answer := f.send(t, tt.request)
			want := tt.wantCode
			if want == 0 {
				want = http.StatusBadRequest
			}
			if answer.StatusCode != want {
				t.Errorf("code %d, want %d", answer.StatusCode, want)
			}
			body, _ := io.ReadAll(answer.Body)
			if !strings.Contains(string(body), tt.wantBody) {
				t.Errorf("the answer %s lacks %q", body, tt.wantBody)
			}
			if reached, _ := f.seen(); len(reached) > 0 {
				t.Errorf("it was forwarded: %s", reached)
			}
			f.Close() // waits for the line
			if log := f.logs.GetBuffer().String(); !tt.byParser && (!strings.Contains(log, "Request") || !strings.Contains(log, "refused=")) {
				t.Errorf("no line says that it was refused: %s", log)
			}
		})
	}
}

func TestWhatClientsSendPasses(t *testing.T) {
	tests := map[string]string{
		"the root":                        "/",
		"a list":                          "/api/v1/namespaces/default/pods?labelSelector=a%2Fb%3Dc",
		"a trailing slash":                "/apis/",
		"a role with a colon, encoded":    "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
		"a double slash behind a proxy":   "/api/v1/namespaces/a/services/https:b:443/proxy/x//y",
		"a hidden slash behind a proxy":   "/api/v1/namespaces/a/pods/b/proxy/registry%2Fimage",
		"a percent sign behind a proxy":   "/api/v1/nodes/b/proxy/100%25",
		"dots in a name":                  "/api/v1/nodes/a..b.example",
		"a proxy without anything behind": "/api/v1/namespaces/a/pods/b/proxy",
	}
	for name, target := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, nil)
			answer := f.send(t, "GET "+target+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			if reached, _ := f.seen(); answer.StatusCode != http.StatusOK || len(reached) != 1 {
				body, _ := io.ReadAll(answer.Body)
				t.Errorf("code %d, forwarded %s: %s", answer.StatusCode, reached, body)
			}
		})
	}
}

// A request with both a length and chunks is read by its chunks (RFC 9112, 6.3), and
// what stands behind them is a request of its own, which answers for itself: nothing
// behind the gateway ever sees both headers.
func TestTheLengthOfAChunkedRequestIsForgotten(t *testing.T) {
	f := newFront(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Length") != "" || r.ContentLength != -1 && r.Method == http.MethodPost {
			t.Errorf("a length of %d was kept: %v", r.ContentLength, r.Header)
		}
	})
	answer := f.send(t, "POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nGET /api/v1/../secrets HTTP/1.1\r\nHost: x\r\n\r\n")
	reached, bodies := f.seen()
	if diff := cmp.Diff([]string{"POST /api/v1/namespaces"}, reached); diff != "" || answer.StatusCode != http.StatusOK {
		t.Errorf("code %d, forwarded (-want +got):\n%s", answer.StatusCode, diff)
	}
	if diff := cmp.Diff([]string{"ab"}, bodies); diff != "" {
		t.Errorf("bodies (-want +got):\n%s", diff)
	}
}

func TestABodyWithoutALengthEndsAtTheLimit(t *testing.T) {
	f := newFront(t, nil)
	for name, tt := range map[string]struct {
		path string
		size int
		want int
	}{
		"one that fits":                {"/api/v1/namespaces", MaxBody, http.StatusOK},
		"one byte more":                {"/api/v1/namespaces", MaxBody + 1, http.StatusRequestEntityTooLarge},
		"more for a Pod behind proxy":  {"/api/v1/namespaces/a/pods/b/proxy/upload", MaxBody + 1, http.StatusOK},
		"more for an API of a request": {"/apis/other/v1/things", MaxBody + 1, http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			body := io.MultiReader(bytes.NewReader(make([]byte, tt.size))) // hides the length
			answer, err := http.Post(f.URL+tt.path, "application/json", body)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != tt.want {
				t.Errorf("code %d, want %d", answer.StatusCode, tt.want)
			}
		})
	}
}

func TestEveryRequestHasAnIDAndALine(t *testing.T) {
	tests := map[string]struct {
		header   string
		handle   http.HandlerFunc
		wantCode int
		wantID   string
		wantLog  []string
	}{
		"an id is made":            {wantCode: 200, wantID: "made", wantLog: []string{`auditID="made"`, `code=200`, `resource="pods/log"`, `namespace="a"`, `name="b"`}},
		"the client's id is taken": {header: "Audit-ID: theirs\r\n", wantCode: 200, wantID: "theirs", wantLog: []string{`auditID="theirs"`}},
		"a panic is one failed request": {
			handle: func(http.ResponseWriter, *http.Request) { panic("boom") }, wantCode: 500, wantID: "made",
			wantLog: []string{"Request ended in a panic", "boom", "hygiene_test.go", `code=500`, `refused="panic"`},
		},
		"bytes are counted": {
			handle: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot); fmt.Fprint(w, "12345") }, wantCode: 418, wantID: "made",
			wantLog: []string{`code=418`, `bytes=5`},
		},
		"users are named": {
			handle: func(_ http.ResponseWriter, r *http.Request) {
				NoteUser(r.Context(), userNamed("alice"))
				NoteImpersonated(r.Context(), userNamed("bob"))
			},
			wantCode: 200, wantID: "made", wantLog: []string{`user="alice"`, `impersonated="bob"`},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, tt.handle)
			answer := f.send(t, "GET /api/v1/namespaces/a/pods/b/log HTTP/1.1\r\nHost: x\r\n"+tt.header+"\r\n")
			if answer.StatusCode != tt.wantCode || answer.Header.Get("Audit-Id") != tt.wantID {
				t.Errorf("code %d, id %q; want %d, %q", answer.StatusCode, answer.Header.Get("Audit-Id"), tt.wantCode, tt.wantID)
			}
			f.Close()
			log := f.logs.GetBuffer().String()
			for _, want := range tt.wantLog {
				if !strings.Contains(log, want) {
					t.Errorf("the log lacks %s:\n%s", want, log)
				}
			}
			if strings.Count(log, `] "Request"`)+strings.Count(log, "] Request ") > 1 {
				t.Errorf("more than one line:\n%s", log)
			}
		})
	}
}

// A client must be able to tell half an answer from a whole one.
func TestAPanicInTheMiddleOfAnAnswerCutsTheConnection(t *testing.T) {
	f := newFront(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half")
		http.NewResponseController(w).Flush() //nolint:errcheck // a test
		panic("boom")
	})
	answer, err := http.Get(f.URL + "/api")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err == nil {
		t.Errorf("the answer %q looks whole", body)
	}
}
