package probes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// execute answers for commands.
type execute func(ctx context.Context, command []string, streams runtime.Streams) error

func (e execute) Exec(ctx context.Context, _ string, command []string, streams runtime.Streams) error {
	return e(ctx, command, streams)
}

func portOf(t *testing.T, address string) intstr.IntOrString {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return intstr.FromInt(port)
}

func serve(t *testing.T, handler http.HandlerFunc) (*httptest.Server, intstr.IntOrString) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server, portOf(t, server.Listener.Addr().String())
}

func target() Target {
	return Target{ID: "id", PodIP: "127.0.0.1", Container: &corev1.Container{Name: "c"}}
}

func TestHTTPGetOutcomes(t *testing.T) {
	tests := map[string]struct {
		handle func(w http.ResponseWriter, r *http.Request)
		path   string
		want   outcome
		output string
	}{
		"200": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") }, "/", success, "fine"},
		"399": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(399); fmt.Fprint(w, "x") }, "/", warning, "Probe terminated redirects, Response body: x"},
		"400": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, "secret")
		}, "/", failure, "HTTP probe failed with statuscode: 400"},
		"503": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, "/", failure, "HTTP probe failed with statuscode: 503"},
		"a redirect on the same host is followed": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				http.Redirect(w, r, "/bad", http.StatusFound)
				return
			}
			w.WriteHeader(http.StatusInternalServerError)
		}, "/", failure, "HTTP probe failed with statuscode: 500"},
		"a redirect to another host is a warning": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://other.invalid/", http.StatusFound)
		}, "/", warning, "Probe terminated redirects, Response body: <a href=\"http://other.invalid/\">Found</a>.\n\n"},
		"redirects without end": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "/", failure, "stopped after 10 redirects"},
		"a long answer is cut":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", 20<<10)) }, "/", success, strings.Repeat("x", 10<<10)},
		"a path that is no URL": {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }, "/%zz", success, "/%zz"},
		"a query":               {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.RawQuery) }, "/a?b=c", success, "b=c"},
		"a slow answer":         {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "/", failure, "context deadline exceeded"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, port := serve(t, tt.handle)
			spec := &corev1.Probe{TimeoutSeconds: 1, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: tt.path, Port: port}}}
			found, err := newChecker(nil).check(t.Context(), spec, target())
			if err != nil {
				t.Fatal(err)
			}
			if found.outcome != tt.want || !strings.Contains(found.output, tt.output) || tt.want != failure && found.output != tt.output {
				t.Errorf("got %v %q, want %v %q", found.outcome, found.output, tt.want, tt.output)
			}
		})
	}
}

func TestHTTPGetAsks(t *testing.T) {
	tests := map[string]struct {
		headers []corev1.HTTPHeader
		want    string
	}{
		"by itself":            {nil, "GET localhost kube-probe/1.37 */* "},
		"with headers":         {[]corev1.HTTPHeader{{Name: "Host", Value: "web"}, {Name: "User-Agent", Value: "me"}, {Name: "accept", Value: "text/plain"}, {Name: "X-Y", Value: "1"}, {Name: "x-y", Value: "2"}}, "GET web me text/plain 1,2"},
		"with an empty accept": {[]corev1.HTTPHeader{{Name: "Accept", Value: ""}}, "GET localhost kube-probe/1.37  "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, port := serve(t, func(w http.ResponseWriter, r *http.Request) {
				host := r.Host
				if h, _, err := net.SplitHostPort(host); err == nil {
					host = h
				}
				fmt.Fprintf(w, "%s %s %s %s %s", r.Method, host, r.UserAgent(), r.Header.Get("Accept"), strings.Join(r.Header["X-Y"], ","))
			})
			action := &corev1.HTTPGetAction{Host: "localhost", Port: port, HTTPHeaders: tt.headers}
			found, err := newChecker(nil).check(t.Context(), &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: action}}, target())
			if err != nil || found.output != tt.want {
				t.Errorf("got %q (%v), want %q", found.output, err, tt.want)
			}
		})
	}
}

func TestHTTPSTrustsAnyCertificate(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "tls") }))
	defer server.Close()
	action := &corev1.HTTPGetAction{Scheme: corev1.URISchemeHTTPS, Port: portOf(t, server.Listener.Addr().String())}
	found, err := newChecker(nil).check(t.Context(), &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: action}}, target())
	if err != nil || found != (finding{success, "tls"}) {
		t.Errorf("got %+v, %v", found, err)
	}
}

func TestTCPSocket(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	spec := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: portOf(t, listener.Addr().String())}}}
	if found, err := newChecker(nil).check(t.Context(), spec, target()); err != nil || found.outcome != success {
		t.Errorf("open: %+v, %v", found, err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if found, err := newChecker(nil).check(t.Context(), spec, target()); err != nil || found.outcome != failure || !strings.Contains(found.output, "connection refused") {
		t.Errorf("closed: %+v, %v", found, err)
	}
}

func TestPorts(t *testing.T) {
	c := &corev1.Container{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}}}
	for name, tt := range map[string]struct {
		port intstr.IntOrString
		want int
		err  string
	}{
		"a number":       {intstr.FromInt32(8080), 8080, ""},
		"a name":         {intstr.FromString("web"), 80, ""},
		"no such name":   {intstr.FromString("tls"), 0, `port "tls" not found`},
		"zero":           {intstr.FromInt32(0), 0, "invalid port number: 0"},
		"too large":      {intstr.FromInt32(65536), 0, "invalid port number: 65536"},
		"digits as text": {intstr.FromString("80"), 0, `port "80" not found`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ResolvePort(tt.port, c)
			if got != tt.want || err == nil != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("got %d, %v", got, err)
			}
		})
	}
}

func TestExec(t *testing.T) {
	tests := map[string]struct {
		run  execute
		want finding
		err  string
	}{
		"code 0": {func(_ context.Context, _ []string, s runtime.Streams) error {
			_, err := io.WriteString(s.Stdout, "fine")
			return err
		}, finding{success, "fine"}, ""},
		"another code": {func(_ context.Context, _ []string, s runtime.Streams) error {
			_, _ = io.WriteString(s.Stdout, "out ")
			_, _ = io.WriteString(s.Stderr, "err")
			return fmt.Errorf("wrapped: %w", &runtime.ExitError{Code: 2})
		}, finding{failure, "out err"}, ""},
		"too slow": {func(ctx context.Context, _ []string, _ runtime.Streams) error {
			<-ctx.Done()
			return ctx.Err()
		}, finding{failure, `command timed out: "sh -c echo v $(B)" timed out after 1s`}, ""},
		"much output": {func(_ context.Context, _ []string, s runtime.Streams) error {
			for range 4 {
				if n, err := s.Stdout.Write([]byte(strings.Repeat("é", 2<<10))); err != nil || n != 4<<10 {
					return fmt.Errorf("wrote %d: %w", n, err)
				}
			}
			return nil
		}, finding{success, strings.Repeat("é", 5<<10)}, ""},
		"it does not run": {func(context.Context, []string, runtime.Streams) error { return errors.New("no such file") }, finding{}, "no such file"},
		"variables as they are written": {func(_ context.Context, command []string, s runtime.Streams) error {
			_, err := io.WriteString(s.Stdout, strings.Join(command, " "))
			return err
		}, finding{success, "sh -c echo v $(B)"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			target := target()
			target.Container.Env = []corev1.EnvVar{{Name: "A", Value: "v"}}
			spec := &corev1.Probe{TimeoutSeconds: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "echo $(A) $(B)"}}}}
			found, err := newChecker(tt.run).check(t.Context(), spec, target)
			if found != tt.want || err == nil != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("got %+v, %v", found, err)
			}
		})
	}
}

func TestGRPC(t *testing.T) {
	with := func(register func(*grpc.Server)) int32 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		register(server)
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(server.Stop)
		return portOf(t, listener.Addr().String()).IntVal
	}
	healthy := with(func(s *grpc.Server) {
		h := health.NewServer()
		h.SetServingStatus("sick", healthv1.HealthCheckResponse_NOT_SERVING)
		healthv1.RegisterHealthServer(s, h)
	})
	empty := with(func(*grpc.Server) {})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	for name, tt := range map[string]struct {
		port    int32
		service *string
		want    finding
	}{
		"serving":            {healthy, nil, finding{success, "service healthy"}},
		"not serving":        {healthy, new("sick"), finding{failure, `service unhealthy (responded with "NOT_SERVING")`}},
		"no such service":    {healthy, new("other"), finding{failure, "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"}},
		"no health protocol": {empty, nil, finding{failure, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service grpc.health.v1.Health"}},
		"nobody speaks": {portOf(t, silent.Addr().String()).IntVal, nil, finding{failure,
			fmt.Sprintf(`timeout: failed to connect service %q within 1s: context deadline exceeded`, silent.Addr())}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &corev1.Probe{TimeoutSeconds: 1, ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: tt.port, Service: tt.service}}}
			if found, err := newChecker(nil).check(t.Context(), spec, target()); err != nil || found != tt.want {
				t.Errorf("got %+v (%v), want %+v", found, err, tt.want)
			}
		})
	}
}

func TestChecksAreTriedAgainOnlyWhenTheyCouldNotBeMade(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want int
	}{
		"success": {nil, 1}, "failure": {&runtime.ExitError{Code: 1}, 1}, "error": {errors.New("boom"), 3},
	} {
		t.Run(name, func(t *testing.T) {
			count := 0
			checker := newChecker(execute(func(context.Context, []string, runtime.Streams) error { count++; return tt.err }))
			_, err := checker.checkWithRetries(t.Context(), &corev1.Probe{TimeoutSeconds: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}}, target())
			if count != tt.want || (err != nil) != (tt.want == 3) {
				t.Errorf("tried %d times, %v", count, err)
			}
		})
	}
}

func TestFirstDelaysOfAdoptedContainersAreSpread(t *testing.T) {
	now := time.Now()
	seen := map[time.Duration]bool{}
	for i := range 100 {
		m := New(t.Context(), Options{Clock: fixed{now: now}})
		w := &worker{manager: m, kind: Readiness, spec: &corev1.Probe{PeriodSeconds: 10},
			container: &container{adopted: true, target: Target{ID: strconv.Itoa(i), StartedAt: now.Add(-time.Hour)}}}
		delay := w.firstDelay()
		if delay < 0 || delay > 10*time.Second {
			t.Fatalf("delay %v", delay)
		}
		seen[delay.Truncate(time.Second)] = true
	}
	if len(seen) < 8 {
		t.Errorf("100 containers share %d of 10 seconds", len(seen))
	}
}
