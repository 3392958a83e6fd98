package hooks

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// execute answers for commands.
type execute func(ctx context.Context, command []string, streams runtime.Streams) error

func (e execute) Exec(ctx context.Context, _ string, command []string, streams runtime.Streams) error {
	return e(ctx, command, streams)
}

func target(ip string) Target {
	return Target{ID: "id", Pod: "p_ns(uid)", PodIP: ip, Container: &corev1.Container{Name: "c"}}
}

func portOf(t *testing.T, address net.Addr) intstr.IntOrString {
	t.Helper()
	_, text, err := net.SplitHostPort(address.String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return intstr.FromInt(port)
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestExec(t *testing.T) {
	for name, tt := range map[string]struct {
		run  execute
		want string
	}{
		"success": {func(_ context.Context, command []string, _ runtime.Streams) error {
			if strings.Join(command, " ") != "sh -c $(A)" {
				return fmt.Errorf("ran %q", command)
			}
			return nil
		}, ""},
		"failure": {func(_ context.Context, _ []string, s runtime.Streams) error {
			_, _ = io.WriteString(s.Stderr, "oh no")
			return &runtime.ExitError{Code: 7}
		}, `Exec lifecycle hook ([sh -c $(A)]) for Container "c" in Pod "p_ns(uid)" failed - error: command terminated with exit code 7, message: "oh no"`},
	} {
		t.Run(name, func(t *testing.T) {
			hook := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "$(A)"}}}
			wantError(t, New(tt.run, clock.RealClock{}).Run(t.Context(), target(""), hook), tt.want)
		})
	}
}

func TestHTTPGet(t *testing.T) {
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.UserAgent() + " " + r.URL.Path + " " + r.Header.Get("Authorization")
		w.WriteHeader(http.StatusInternalServerError) // any answer will do
	}))
	defer server.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closedPort := portOf(t, closed.Addr())
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	port := portOf(t, server.Listener.Addr())
	secret := []corev1.HTTPHeader{{Name: "Authorization", Value: "Bearer x"}}
	for name, tt := range map[string]struct {
		ip     string
		action corev1.HTTPGetAction
		asked  string
		want   string
	}{
		"the Pod":           {"127.0.0.1", corev1.HTTPGetAction{Path: "/a", Port: port, HTTPHeaders: secret}, "kube-lifecycle/1.37 /a Bearer x", ""},
		"another host":      {"", corev1.HTTPGetAction{Host: "127.0.0.1", Path: "/b", Port: port}, "kube-lifecycle/1.37 /b ", ""},
		"HTTP behind HTTPS": {"127.0.0.1", corev1.HTTPGetAction{Scheme: corev1.URISchemeHTTPS, Path: "/c", Port: port, HTTPHeaders: secret}, "kube-lifecycle/1.37 /c ", ""},
		"nobody listens":    {"127.0.0.1", corev1.HTTPGetAction{Path: "/d", Port: closedPort}, "", `HTTP lifecycle hook (/d) for Container "c" in Pod "p_ns(uid)" failed - error: Get "http://127.0.0.1:`},
		"no address":        {"", corev1.HTTPGetAction{Path: "/e", Port: port}, "", "the Pod has no address"},
		"no such port":      {"127.0.0.1", corev1.HTTPGetAction{Path: "/f", Port: intstr.FromString("web")}, "", `port "web" not found`},
	} {
		t.Run(name, func(t *testing.T) {
			target, fallback := target(tt.ip), ""
			target.Fallback = func(message string) { fallback = message }
			err := New(nil, clock.RealClock{}).Run(t.Context(), target, &corev1.LifecycleHandler{HTTPGet: &tt.action})
			wantError(t, err, tt.want)
			if told := strings.HasPrefix(fallback, "request to HTTPS lifecycle hook 127.0.0.1:"); told != (tt.action.Scheme == corev1.URISchemeHTTPS) {
				t.Errorf("told %q", fallback)
			}
			got := ""
			select {
			case got = <-asked:
			default:
			}
			if got != tt.asked {
				t.Errorf("asked %q, want %q", got, tt.asked)
			}
		})
	}
}

func TestSleep(t *testing.T) {
	for name, tt := range map[string]struct {
		limit, took time.Duration
		want        string
	}{
		"to the end":  {time.Minute, 5 * time.Second, ""},
		"interrupted": {2 * time.Second, 2 * time.Second, `Sleep lifecycle hook (5) for Container "c" in Pod "p_ns(uid)" failed - error: container terminated before sleep hook finished`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				began := time.Now()
				wantError(t, New(nil, clock.RealClock{}).Run(ctx, target(""), &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}}), tt.want)
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

func TestHookWithoutHandler(t *testing.T) {
	wantError(t, New(nil, clock.RealClock{}).Run(t.Context(), target(""), &corev1.LifecycleHandler{}), "invalid handler: give it exec, httpGet or sleep")
}
