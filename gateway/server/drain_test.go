package server

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const event = `{"type":"ADDED","object":{"kind":"Pod","apiVersion":"core.keelson.dev/v1","metadata":{"name":"p","namespace":"a","resourceVersion":"1"},"spec":{},"status":{}}}` + "\n"

// streaming answers with first, and then with nothing until the client leaves.
func streaming(first string, left chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, first)              //nolint:errcheck // a test
		http.NewResponseController(w).Flush() //nolint:errcheck // a test
		<-r.Context().Done()
		left <- struct{}{}
	}
}

func open(t *testing.T, s *served, client *http.Client, token, path string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, answer.Status)
	}
	return answer
}

// A watch that ends at an event is what clients know: they begin again where they were.
func TestWatchesEndCleanlyWhenTheGatewayEnds(t *testing.T) {
	for name, path := range map[string]string{
		"of our kinds":    "/api/v1/namespaces/a/pods?watch=true",
		"of other kinds":  "/api/v1/namespaces/a/configmaps?watch=true",
		"of stored kinds": "/apis/core.keelson.dev/v1/pods?watch=true",
	} {
		for protocol, http2 := range map[string]bool{"HTTP/2": true, "HTTP/1.1": false} {
			t.Run(name+", "+protocol, func(t *testing.T) {
				api := newAPIServer(t)
				left := make(chan struct{}, 1)
				api.answer = streaming(event, left)
				s := serve(t, api, func(o *Options) { o.Shutdown.DrainTimeout = metav1.Duration{Duration: time.Minute} })
				client := s.client("")
				client.Transport.(*http.Transport).ForceAttemptHTTP2 = http2
				answer := open(t, s, client, "root", path)
				events := bufio.NewReader(answer.Body)
				if line, err := events.ReadString('\n'); err != nil || !strings.Contains(line, `"ADDED"`) {
					t.Fatalf("the first event is %q, %v", line, err)
				}
				s.end()
				if line, err := events.ReadString('\n'); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || line != "" {
					t.Errorf("the watch ended with %q, %v; want a clean end", line, err)
				}
				select {
				case <-s.done: // long before the timeout
				case <-time.After(30 * time.Second):
					t.Fatal("the gateway has not ended")
				}
				<-left
			})
		}
	}
}

func TestAnEventIsNotCutInTheMiddle(t *testing.T) {
	api := newAPIServer(t)
	rest, whole := make(chan struct{}), make(chan struct{}, 1)
	api.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, event+event[:40])   //nolint:errcheck // a test
		http.NewResponseController(w).Flush() //nolint:errcheck // a test
		<-rest
		io.WriteString(w, event[40:]+event[:20]) //nolint:errcheck // a test
		http.NewResponseController(w).Flush()    //nolint:errcheck // a test
		<-r.Context().Done()
		whole <- struct{}{}
	}
	s := serve(t, api, func(o *Options) { o.Shutdown.DrainTimeout = metav1.Duration{Duration: time.Minute} })
	answer := open(t, s, s.client(""), "root", "/api/v1/namespaces/a/configmaps?watch=true")
	first := make([]byte, len(event)+40)
	if _, err := io.ReadFull(answer.Body, first); err != nil {
		t.Fatal(err)
	}
	s.end()
	deadline := time.Now().Add(30 * time.Second)
	for { // the listener closes after the drain has begun
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "https://"))
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the drain does not begin")
		}
	}
	close(rest)
	more, err := io.ReadAll(answer.Body)
	if got := string(first) + string(more); err != nil || got != event+event {
		t.Errorf("the watch ended with %q, %v; want two whole events", got, err)
	}
	<-s.done
	<-whole
}

func TestStreamsHaveUntilTheTimeout(t *testing.T) {
	api := newAPIServer(t)
	left := make(chan struct{}, 1)
	api.answer = streaming("begun\n", left)
	s := serve(t, api, func(o *Options) { o.Shutdown.DrainTimeout = metav1.Duration{Duration: 500 * time.Millisecond} })
	answer := open(t, s, s.client(""), "root", "/apis/other/v1/namespaces/a/things/x/attach")
	lines := bufio.NewReader(answer.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s.end()
	<-s.done
	if took := time.Since(begin); took < 400*time.Millisecond {
		t.Errorf("the stream was cut after %s", took)
	}
	<-left
	if _, err := lines.ReadString('\n'); err == nil {
		t.Error("the stream goes on")
	}
}

func TestDuringTheDelayItServesAndSaysThatItEnds(t *testing.T) {
	api := newAPIServer(t)
	s := serve(t, api, func(o *Options) {
		o.Shutdown.Delay = metav1.Duration{Duration: 2 * time.Second}
	})
	client := s.client("")
	if code, _, _ := s.ask(t, client, http.MethodGet, "/readyz", "", nil); code != 200 {
		t.Fatalf("/readyz: %d", code)
	}
	s.end()
	deadline := time.Now().Add(time.Second)
	for {
		if code, _, body := s.ask(t, client, http.MethodGet, "/readyz", "", nil); code == 503 && strings.Contains(body, "shutdown") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("/readyz does not fail")
		}
	}
	if code, _, body := s.ask(t, s.client(""), http.MethodGet, "/api/v1/configmaps", "alice", nil); code != 200 {
		t.Errorf("a new connection gets %d %s", code, body)
	}
	<-s.done
	if _, err := s.client("").Get(s.url + "/livez"); err == nil {
		t.Error("it serves still")
	}
}

// Replicas share nothing: with one gone, a client finds the same at the other.
func TestAReplicaIsKilled(t *testing.T) {
	api := newAPIServer(t)
	left := make(chan struct{}, 2)
	api.answer = streaming(event, left)
	first := serve(t, api, func(o *Options) { o.Shutdown.DrainTimeout = metav1.Duration{Duration: time.Millisecond} })
	second := serve(t, api, nil)
	open(t, first, first.client(""), "root", "/api/v1/namespaces/a/pods?watch=true")
	first.end()
	<-first.done
	<-left
	answer := open(t, second, second.client(""), "root", "/api/v1/namespaces/a/pods?watch=true&resourceVersion=1")
	if line, err := bufio.NewReader(answer.Body).ReadString('\n'); err != nil || !strings.Contains(line, `"ADDED"`) {
		t.Errorf("the other replica answers %q, %v", line, err)
	}
}
