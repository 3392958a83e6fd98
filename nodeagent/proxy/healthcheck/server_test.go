package healthcheck

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

var loopback = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

// freePort returns one that nobody listens on now.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

type answer struct {
	Code   int
	Weight string
	Type   string
	Body   string
}

func ask(t *testing.T, port uint16) (answer, error) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://127.0.0.1:" + strconv.Itoa(int(port)))
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var parsed map[string]any
	if err := json.Unmarshal(body, &parsed); err != nil {
		t.Errorf("the body is no JSON: %v: %s", err, body)
	}
	return answer{Code: resp.StatusCode, Weight: resp.Header.Get("X-Load-Balancing-Endpoint-Weight"), Type: resp.Header.Get("Content-Type"), Body: string(body)}, nil
}

func body(endpoints int, healthy bool) string {
	return "{\n\t\"service\": {\n\t\t\"namespace\": \"ns\",\n\t\t\"name\": \"lb\"\n\t},\n\t\"localEndpoints\": " +
		strconv.Itoa(endpoints) + ",\n\t\"serviceProxyHealthy\": " + strconv.FormatBool(healthy) + "\n}"
}

func TestAnswers(t *testing.T) {
	healthy := true
	s := New(Options{Family: model.IPv4, Healthy: func() bool { return healthy }})
	defer s.Close()
	port := freePort(t)
	name := types.NamespacedName{Namespace: "ns", Name: "lb"}
	for _, step := range []struct {
		name      string
		endpoints int
		healthy   bool
		want      answer
	}{
		{"endpoints here", 2, true, answer{200, "2", "application/json", body(2, true)}},
		{"none", 0, true, answer{503, "0", "application/json", body(0, true)}},
		{"a proxy that does not keep up", 3, false, answer{503, "3", "application/json", body(3, false)}},
	} {
		healthy = step.healthy
		if err := s.Sync(context.Background(), map[types.NamespacedName]Service{name: {Port: port, LocalEndpoints: step.endpoints}}, loopback); err != nil {
			t.Fatal(err)
		}
		got, err := ask(t, port)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	moved := freePort(t)
	if err := s.Sync(context.Background(), map[types.NamespacedName]Service{name: {Port: moved, LocalEndpoints: 1}}, loopback); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, moved); err != nil {
		t.Errorf("the new port: %v", err)
	}
	if _, err := ask(t, port); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the old port: %v, want it closed", err)
	}
	if err := s.Sync(context.Background(), nil, loopback); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, moved); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("without the Service: %v, want it closed", err)
	}
}

func TestAPortThatSomethingElseHas(t *testing.T) {
	rival, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(rival.Addr().String()).Port()
	var told []error
	s := New(Options{Healthy: func() bool { return true }, Failed: func(_ types.NamespacedName, _ uint16, err error) { told = append(told, err) }})
	defer s.Close()
	sync := func() error {
		return s.Sync(context.Background(), map[types.NamespacedName]Service{{Namespace: "ns", Name: "lb"}: {Port: port, LocalEndpoints: 1}}, loopback)
	}
	for range 3 {
		if err := sync(); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("error is %v", err)
		}
	}
	if len(told) != 1 {
		t.Errorf("told %d times, want once: %v", len(told), told)
	}
	if err := rival.Close(); err != nil {
		t.Fatal(err)
	}
	if err := sync(); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, port); err != nil || got.Code != http.StatusOK {
		t.Errorf("after the rival went: %v, %v", got, err)
	}
}
