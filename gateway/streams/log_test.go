package streams_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

const logPath = "/api/v1/namespaces/default/pods/p/log"

// TestLogOptionsReachTheAgent: all of them, and nothing else.
func TestLogOptionsReachTheAgent(t *testing.T) {
	for query, want := range map[string]url.Values{
		"":                                 {},
		"follow=true&previous=1":           {"follow": {"true"}, "previous": {"true"}},
		"follow=false&timestamps=TRUE":     {"timestamps": {"true"}},
		"tailLines=0&limitBytes=7":         {"tailLines": {"0"}, "limitBytes": {"7"}},
		"sinceSeconds=30":                  {"sinceSeconds": {"30"}},
		"sinceTime=2026-01-02T03:04:05.9Z": {"sinceTime": {"2026-01-02T03:04:05Z"}},
		"stream=Stderr&pretty=true":        {"stream": {"Stderr"}},
	} {
		t.Run(query, func(t *testing.T) {
			f := newFront(t)
			var got *http.Request
			f.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r
				_, _ = io.WriteString(w, "line\n")
			}))
			f.PutPod(pod("p", "c"))
			code, body := f.ask(t, "GET", logPath+"?"+query, http.Header{"Authorization": {"Bearer of the caller"}, "Impersonate-User": {"x"}})
			if code != http.StatusOK || body != "line\n" {
				t.Fatalf("got %d %s", code, body)
			}
			if got.URL.Path != "/containerLogs/default/p/c" {
				t.Errorf("the agent was asked for %s", got.URL.Path)
			}
			if diff := cmp.Diff(want, got.URL.Query()); diff != "" {
				t.Errorf("query (-want +got):\n%s", diff)
			}
			if got.Header.Get("Authorization")+got.Header.Get("Impersonate-User") != "" {
				t.Errorf("the agent saw the caller's credentials: %v", got.Header)
			}
		})
	}
}

// TestAnAgentsRefusalIsTheAnswer: kubectl shows what the node said.
func TestAnAgentsRefusalIsTheAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		code     int
		message  string
		wantCode int
		want     string
	}{
		"a container that only starts": {400, `container "c" in pod "p" is waiting to start: ContainerCreating`, 400, `"message":"container \"c\" in pod \"p\" is waiting to start: ContainerCreating"`},
		"a log that is gone":           {404, "no such file", 404, `"message":"the server could not find the requested resource ( pods/log p)"`},
		"an agent in trouble":          {500, "disk on fire", 500, `"message":"Internal error occurred: disk on fire"`},
		"an agent that says no":        {403, "Forbidden", 403, `"reason":"Forbidden"`},
		"an agent that sends away":     {302, "", 500, "redirects forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t)
			f.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.code)
				_, _ = io.WriteString(w, test.message)
			}))
			f.PutPod(pod("p", "c"))
			code, body := f.ask(t, "GET", logPath, nil)
			if code != test.wantCode || !strings.Contains(body, test.want) {
				t.Errorf("got %d %s, want %d %s", code, body, test.wantCode, test.want)
			}
		})
	}
}

func TestALogOfAPodWithoutANodeIsEmpty(t *testing.T) {
	f := newFront(t)
	p := pod("p", "c")
	p.Spec.NodeName = ""
	f.PutPod(p)
	if code, body := f.ask(t, "GET", logPath, nil); code != http.StatusNoContent || body != "" {
		t.Errorf("got %d %q, want no content", code, body)
	}
}

// follower opens a log that goes on.
func (f *front) follower(t *testing.T, ctx context.Context) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+logPath+"?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := new(http.Transport).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// TestFollowing: headers come before the first line, lines come as they are written, and
// the agent learns when the client leaves.
func TestFollowing(t *testing.T) {
	f := newFront(t)
	lines, left := make(chan string), make(chan struct{})
	f.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		controller := http.NewResponseController(w)
		_ = controller.Flush()
		for {
			select {
			case line := <-lines:
				fmt.Fprintln(w, line)
				_ = controller.Flush()
			case <-r.Context().Done():
				close(left)
				return
			}
		}
	}))
	f.PutPod(pod("p", "c"))
	ctx, leave := context.WithTimeout(t.Context(), patience)
	defer leave()
	response := f.follower(t, ctx)
	if got := response.Header.Get("Content-Type"); got != "text/plain" {
		t.Errorf("the content type is %q", got)
	}
	reader := bufio.NewReader(response.Body)
	for _, line := range []string{"one", "two"} {
		lines <- line
		if got, err := reader.ReadString('\n'); err != nil || got != line+"\n" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	leave()
	within(t, "the agent knows that the client left", left)
}

// TestALogThatBreaksOffDoesNotEndWell: the client can tell it from a log that is over.
func TestALogThatBreaksOffDoesNotEndWell(t *testing.T) {
	f := newFront(t)
	f.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "begin")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	f.PutPod(pod("p", "c"))
	body, err := io.ReadAll(f.follower(t, t.Context()).Body)
	if err == nil || string(body) != "begin" {
		t.Errorf("got %q, %v; want the beginning and an error", body, err)
	}
}

func TestAnUnverifiedAgentNeedsTheCallersWord(t *testing.T) {
	f := newFront(t)
	node, _ := f.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "line") }))
	f.PutPod(pod("p", "c"))
	// The agent's certificate is for another address.
	_, server := f.AddAgent("other", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "line") }))
	f.Place(node.Status.Addresses[0].Address+":10250", server)
	if code, body := f.ask(t, "GET", logPath, nil); code != http.StatusInternalServerError || !strings.Contains(body, "x509: certificate is valid for 10.9.0.2, not 10.9.0.1") {
		t.Errorf("got %d %s", code, body)
	}
	if code, body := f.ask(t, "GET", logPath+"?insecureSkipTLSVerifyBackend=true", nil); code != http.StatusOK || body != "line" {
		t.Errorf("got %d %s", code, body)
	}
}

func TestALogOverAWebSocket(t *testing.T) {
	f := newFront(t)
	f.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "line\n") }))
	f.PutPod(pod("p", "c"))
	location := f.path(logPath)
	location.Scheme = "ws"
	dialer := websocket.Dialer{Subprotocols: []string{"binary.k8s.io", "base64url.bearer.authorization.k8s.io.c2VjcmV0"}}
	conn, response, err := dialer.Dial(location.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	var got []byte
	for len(got) < len("line\n") {
		_, frame, err := conn.ReadMessage()
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got = append(got, frame...)
	}
	if string(got) != "line\n" {
		t.Errorf("got %q", got)
	}
}

// TestAWebSocketClientLeavesASilentLog: the agent learns of it without a line to write.
func TestAWebSocketClientLeavesASilentLog(t *testing.T) {
	f := newFront(t)
	left := make(chan struct{})
	f.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "line\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(left)
	}))
	f.PutPod(pod("p", "c"))
	location := f.path(logPath + "?follow=true")
	location.Scheme = "ws"
	conn, response, err := websocket.DefaultDialer.Dial(location.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := conn.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, "the agent knows that the client left", left)
}
