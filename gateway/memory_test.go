package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/gateway"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// front is a gateway before a made-up API server.
func front(t *testing.T, server http.HandlerFunc) string {
	t.Helper()
	behind := httptest.NewServer(server)
	t.Cleanup(behind.Close)
	base, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	h, err := gateway.New(gateway.Config{Table: table.Keelson(), Upstream: upstream.New(base, http.DefaultTransport)})
	if err != nil {
		t.Fatal(err)
	}
	infos := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	before := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := infos.NewRequestInfo(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.ServeHTTP(w, r.WithContext(request.WithRequestInfo(r.Context(), info)))
	}))
	t.Cleanup(before.Close)
	return before.URL
}

// storedPod is a Pod of about four kilobytes.
func storedPod(i int) string {
	return fmt.Sprintf(`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"pod-%d","namespace":"default","uid":"u-%d","finalizers":["keelson.dev/pod"],"annotations":{"note":%q}},`+
		`"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]},"status":{"phase":"Running","summary":{"ready":"1/1","restarts":0}}}`, i, i, strings.Repeat("x", 3600))
}

// get asks with a bounded receive buffer, so that what the client does not read is held
// by the sender.
func get(t *testing.T, address, accept string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", address, response.Status)
	}
	return response
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestAHugeListIsStreamed lists 200 MB of Pods and looks at the heap while the client is
// in the middle of reading: neither side of the gateway may hold the list.
func TestAHugeListIsStreamed(t *testing.T) {
	const pods, most = 50_000, 32 << 20
	url := front(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		out := bufio.NewWriter(w)
		_, _ = out.WriteString(`{"apiVersion":"core.keelson.dev/v1","kind":"PodList","metadata":{"resourceVersion":"7"},"items":[`)
		for i := range pods {
			if i > 0 {
				_ = out.WriteByte(',')
			}
			_, _ = out.WriteString(storedPod(i))
		}
		_, _ = out.WriteString("]}")
		_ = out.Flush()
	})
	before := heap()
	response := get(t, url+"/api/v1/pods", "application/json")
	defer response.Body.Close()
	var read int64
	for part := range 4 {
		n, err := io.CopyN(io.Discard, response.Body, 45<<20)
		read += n
		if err != nil {
			t.Fatalf("part %d ended after %d bytes: %v", part, read, err)
		}
		if now := heap(); now > before+most {
			t.Errorf("after %d MB the heap has grown by %d MB", read>>20, (now-before)>>20)
		}
	}
	rest, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(rest[len(rest)-100:])), "]}") || strings.Contains(string(rest), "keelson") {
		t.Errorf("the list ends with %s, %v", rest[len(rest)-100:], err)
	}
}

// TestASlowWatcherHoldsTheAPIServerBack: what a client does not read is not read from
// the API server either, beyond what the kernel buffers.
func TestASlowWatcherHoldsTheAPIServerBack(t *testing.T) {
	for _, resource := range []string{"pods", "configmaps"} {
		t.Run(resource, func(t *testing.T) {
			var sent atomic.Int64
			left := make(chan struct{})
			url := front(t, func(w http.ResponseWriter, r *http.Request) {
				defer close(left)
				w.Header().Set("Content-Type", "application/json")
				for i := 0; r.Context().Err() == nil; i++ {
					n, err := fmt.Fprintf(w, `{"type":"ADDED","object":%s}`+"\n", storedPod(i))
					if err != nil {
						return
					}
					sent.Add(int64(n))
				}
			})
			response := get(t, url+"/api/v1/"+resource+"?watch=1", "application/json")
			if _, err := io.CopyN(io.Discard, response.Body, 1<<20); err != nil {
				t.Fatal(err)
			}
			const most = 64 << 20
			before := int64(-1)
			for now := sent.Load(); now != before; now = sent.Load() {
				if before = now; now > most {
					t.Fatalf("the API server could send %d MB to a client that read 1", now>>20)
				}
				time.Sleep(300 * time.Millisecond)
			}
			if now := heap(); now > most {
				t.Errorf("the heap is %d MB", now>>20)
			}
			response.Body.Close()
			select {
			case <-left:
			case <-time.After(20 * time.Second):
				t.Error("the watch of the API server goes on after the client has left")
			}
		})
	}
}
