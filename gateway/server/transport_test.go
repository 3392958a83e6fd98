package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/gateway/upstream"
)

// wire remembers what goes over it.
type wire struct {
	sent []http.Header
	err  error
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.sent = append(w.sent, r.Header)
	if w.err != nil {
		return nil, w.err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Audit-Id": {"theirs"}}, Body: io.NopCloser(strings.NewReader("x"))}, nil
}

func requestBy(ctx context.Context, u user.Info, verb string, header http.Header) *http.Request {
	if u != nil {
		ctx = request.WithUser(ctx, u)
	}
	ctx = request.WithRequestInfo(ctx, &request.RequestInfo{Verb: verb})
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api", nil)
	if header != nil {
		r.Header = header
	}
	return r
}

func TestWhatGoesToTheAPIServer(t *testing.T) {
	alice := &user.DefaultInfo{Name: "alice", UID: "u", Groups: []string{"g"}, Extra: map[string][]string{"a.b/C": {"v"}}}
	dirty := http.Header{
		"Authorization": {"Bearer client"}, "Proxy-Authorization": {"x"}, "Impersonate-User": {"root"}, "Impersonate-Group": {"system:masters"},
		"Impersonate-Extra-Scopes": {"all"}, "X-Remote-User": {"root"}, "Accept": {"application/json"},
	}
	tests := map[string]struct {
		context func(context.Context) context.Context
		user    user.Info
		want    http.Header
		wantErr error
	}{
		"a caller": {user: alice, want: http.Header{
			"Accept": {"application/json"}, "Impersonate-User": {"alice"}, "Impersonate-Uid": {"u"}, "Impersonate-Group": {"g"}, "Impersonate-Extra-A.b%2fc": {"v"},
		}},
		"a caller who was authorized": {context: upstream.Authorized, user: alice, want: http.Header{
			"Accept": {"application/json"}, "Impersonate-User": {"alice"}, "Impersonate-Uid": {"u"}, "Impersonate-Group": {"g", "keelson:gateway:authorized"}, "Impersonate-Extra-A.b%2fc": {"v"},
		}},
		"a caller who was authorized, but not to create": {
			context: func(ctx context.Context) context.Context { return withoutCreate(upstream.Authorized(ctx)) }, user: &user.DefaultInfo{Name: "bob"},
			want: http.Header{"Accept": {"application/json"}, "Impersonate-User": {"bob"}, "Impersonate-Group": {"keelson:gateway:authorized:without-create"}},
		},
		"the gateway":             {context: upstream.AsGateway, user: alice, want: http.Header{"Accept": {"application/json"}}},
		"nobody":                  {wantErr: errNoUser},
		"nobody, but authorized":  {context: upstream.Authorized, wantErr: errNoUser},
		"somebody without a name": {user: &user.DefaultInfo{Groups: []string{"g"}}, wantErr: errNoUser},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if tt.context != nil {
				ctx = tt.context(ctx)
			}
			over := &wire{}
			transport := &identities{http1: over, http2: over, drain: newDrain()}
			r := requestBy(ctx, tt.user, "get", dirty.Clone())
			answer, err := transport.RoundTrip(r)
			if !errors.Is(err, tt.wantErr) {
				t.Fatalf("error %v, want %v", err, tt.wantErr)
			}
			if diff := cmp.Diff(dirty, r.Header); diff != "" {
				t.Errorf("the request was changed (-want +got):\n%s", diff)
			}
			if tt.wantErr != nil {
				if len(over.sent) > 0 {
					t.Errorf("it was sent: %v", over.sent)
				}
				return
			}
			if diff := cmp.Diff([]http.Header{tt.want}, over.sent); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			if answer.Header.Get("Audit-Id") != "" {
				t.Error("the client gets two ids")
			}
		})
	}
}

func TestWhichConnection(t *testing.T) {
	http1, http2 := &wire{}, &wire{}
	transport := &identities{http1: http1, http2: http2, drain: newDrain()}
	u := &user.DefaultInfo{Name: "a"}
	send := func(verb string, header http.Header) *http.Response {
		answer, err := transport.RoundTrip(requestBy(t.Context(), u, verb, header))
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	check := func(when string, want1, want2 int) {
		t.Helper()
		if len(http1.sent) != want1 || len(http2.sent) != want2 {
			t.Errorf("%s: %d over HTTP/1.1 and %d over HTTP/2, want %d and %d", when, len(http1.sent), len(http2.sent), want1, want2)
		}
	}
	send("watch", nil)
	check("a watch", 0, 1)
	send("get", http.Header{"Upgrade": {"websocket"}})
	check("an upgrade", 1, 1)
	var answers []*http.Response
	for range maxBusy {
		answers = append(answers, send("get", nil))
	}
	check("as many requests as connections are kept", 1+maxBusy, 1)
	send("get", nil).Body.Close()
	check("one more", 1+maxBusy, 2)
	answers[0].Body.Close()
	answers[0].Body.Close() // counts once
	send("get", nil)
	check("one after another has ended", 2+maxBusy, 2)
	send("get", nil)
	check("and one beside it", 2+maxBusy, 3)
	for _, a := range answers[1:] {
		a.Body.Close()
	}
	http1.err = errors.New("refused")
	for range 2 * maxBusy {
		if _, err := transport.RoundTrip(requestBy(t.Context(), u, "get", nil)); err == nil {
			t.Fatal("no error")
		}
	}
	check("failures free their connections", 2+3*maxBusy, 3)
}
