// Package dns runs keelson-dns, with the Corefile that clusters get, against a real API
// server: what a client is told follows what is written there.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryapi "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/config"
	"github.com/keelson-dev/keelson/test/env"
)

const patience = 20 * time.Second

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

// server is a running keelson-dns.
type server struct {
	address  string
	ready    string
	corefile string
	cmd      *exec.Cmd
	log      *os.File
}

// compile builds the program that clusters run.
func compile(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "keelson-dns")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", program, "github.com/keelson-dev/keelson/cmd/dns")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile keelson-dns: %v\n%s", err, out)
	}
	return program
}

// shipped is the Corefile of config/dns, made to listen on loopback and to read the API
// of this test. A long time to live shows what is remembered.
func shipped(t *testing.T, port, ready, metrics, health int) string {
	t.Helper()
	objects, err := config.Objects(config.DNS)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		text, _, _ := unstructured.NestedString(object.Object, "data", "Corefile")
		if text == "" {
			continue
		}
		for _, change := range [][2]string{
			{".:53 {\n", fmt.Sprintf(".:%d {\n    bind 127.0.0.1\n", port)},
			{"health {", fmt.Sprintf("health 127.0.0.1:%d {", health)},
			{"lameduck 2s", "lameduck 100ms"},
			{"    ready\n", fmt.Sprintf("    ready 127.0.0.1:%d\n", ready)},
			{"prometheus :9153", fmt.Sprintf("prometheus 127.0.0.1:%d", metrics)},
			{"ttl 5", "ttl 600\n        kubeconfig " + testEnv.Kubeconfig},
			{"    reload\n", "    reload 2s 1s\n"},
		} {
			if strings.Count(text, change[0]) != 1 {
				t.Fatalf("the Corefile does not have %q once:\n%s", change[0], text)
			}
			text = strings.Replace(text, change[0], change[1], 1)
		}
		return text
	}
	t.Fatal("config/dns has no Corefile")
	return ""
}

func start(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	port, ready := env.FreePort(t), env.FreePort(t)
	s := &server{address: fmt.Sprintf("127.0.0.1:%d", port), ready: fmt.Sprintf("127.0.0.1:%d", ready), corefile: filepath.Join(dir, "Corefile")}
	resolv := filepath.Join(dir, "resolv.conf")
	write(t, s.corefile, strings.ReplaceAll(shipped(t, port, ready, env.FreePort(t), env.FreePort(t)), "/etc/resolv.conf", resolv))
	write(t, resolv, "nameserver 127.0.0.1\n")
	var err error
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(compile(t), "--corefile="+s.corefile, "--resolv-conf="+resolv)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("keelson-dns ended with %v", err)
		}
		if log, err := os.ReadFile(s.log.Name()); err == nil && t.Failed() {
			t.Logf("keelson-dns said\n%s", log)
		}
	})
	s.eventually(t, "ready", func() error {
		response, err := http.Get("http://" + s.ready + "/ready")
		if err == nil && response.StatusCode != http.StatusOK {
			err = errors.New(response.Status)
		}
		if response != nil {
			_ = response.Body.Close()
		}
		return err
	})
	return s
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *server) eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// ask returns the code of an answer and the data of its records, sorted.
func (s *server) ask(name string, kind uint16) (string, []string, error) {
	answer, err := dns.Exchange(new(dns.Msg).SetQuestion(name, kind), s.address)
	if err != nil {
		return "", nil, err
	}
	var data []string
	for _, rr := range answer.Answer {
		data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(data)
	return dns.RcodeToString[answer.Rcode], data, nil
}

func (s *server) answers(t *testing.T, name string, kind uint16, code string, want ...string) {
	t.Helper()
	s.eventually(t, name, func() error {
		got, data, err := s.ask(name, kind)
		if err == nil && (got != code || !slices.Equal(data, want)) {
			err = fmt.Errorf("%s %q, want %s %q", got, data, code, want)
		}
		return err
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func namespace(t *testing.T, name string) {
	t.Helper()
	must(t, testEnv.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
}

func TestAnswersFollowTheAPI(t *testing.T) {
	s, c := start(t), testEnv.Client
	namespace(t, "names")
	service := &keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "names", Name: "web"}}
	service.Spec = corev1.ServiceSpec{ClusterIP: "10.254.3.4", ClusterIPs: []string{"10.254.3.4"}, Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}}
	const web, crew = "web.names.svc.cluster.local.", "crew.names.svc.cluster.local."

	t.Log("A name that was asked for before it was there is there at once: nothing remembers that it was not")
	s.answers(t, web, dns.TypeA, "NXDOMAIN")
	must(t, c.Create(t.Context(), service))
	created := time.Now()
	s.answers(t, web, dns.TypeA, "NOERROR", "10.254.3.4")
	t.Logf("after %s", time.Since(created))
	s.answers(t, "4.3.254.10.in-addr.arpa.", dns.TypePTR, "NOERROR", web)

	t.Log("Nor does anything remember what it was")
	must(t, c.Delete(t.Context(), service))
	s.answers(t, web, dns.TypeA, "NXDOMAIN")

	t.Log("Endpoints of a headless Service come and go with its slices")
	headless := &keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "names", Name: "crew"}}
	headless.Spec = corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, ClusterIPs: []string{corev1.ClusterIPNone}, Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "names", Name: "crew-1", Labels: map[string]string{discoveryapi.LabelServiceName: "crew"}},
		AddressType: discoveryapi.AddressTypeIPv4,
		Endpoints: []discoveryapi.Endpoint{
			{Addresses: []string{"10.244.0.7"}, Hostname: new("one"), Conditions: discoveryapi.EndpointConditions{Ready: new(true)}},
			{Addresses: []string{"10.244.0.8"}, Conditions: discoveryapi.EndpointConditions{Ready: new(false)}},
		},
		Ports: []discoveryapi.EndpointPort{{Name: new("http"), Port: new(int32(80)), Protocol: new(corev1.ProtocolTCP)}},
	}
	must(t, c.Create(t.Context(), headless))
	must(t, c.Create(t.Context(), slice))
	s.answers(t, crew, dns.TypeA, "NOERROR", "10.244.0.7")
	s.answers(t, "one."+crew, dns.TypeA, "NOERROR", "10.244.0.7")
	changed := client.MergeFrom(slice.DeepCopy())
	slice.Endpoints[1].Conditions.Ready = new(true)
	must(t, c.Patch(t.Context(), slice, changed))
	s.answers(t, crew, dns.TypeA, "NOERROR", "10.244.0.7", "10.244.0.8")
	must(t, c.Delete(t.Context(), slice))
	s.answers(t, crew, dns.TypeA, "NXDOMAIN")

	t.Log("Addresses of Pods are words")
	s.answers(t, "10-244-0-9.names.pod.cluster.local.", dns.TypeA, "NOERROR", "10.244.0.9")

	t.Log("Names of elsewhere: there is no server to ask, and that is no reason not to run")
	s.answers(t, "example.org.", dns.TypeA, "SERVFAIL")
}

// The two forms of a name, switched on while the server runs.
func TestACorefileThatChangesIsTakenUp(t *testing.T) {
	s, c := start(t), testEnv.Client
	namespace(t, "forms")
	service := &keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "forms", Name: "web"}}
	service.Spec = corev1.ServiceSpec{ClusterIP: "10.254.3.5", ClusterIPs: []string{"10.254.3.5"}, Ports: []corev1.ServicePort{{Port: 80}}}
	must(t, c.Create(t.Context(), service))
	s.answers(t, "web.forms.svc.cluster.local.", dns.TypeA, "NOERROR", "10.254.3.5")
	s.answers(t, "web.forms.cluster.local.", dns.TypeA, "NXDOMAIN")
	content, err := os.ReadFile(s.corefile)
	must(t, err)

	t.Log("One that is wrong is not taken up, and the server goes on")
	write(t, s.corefile, strings.Replace(string(content), "pods insecure", "pods maybe", 1))
	s.eventually(t, "says what is wrong", func() error {
		log, err := os.ReadFile(s.log.Name())
		if err == nil && !strings.Contains(string(log), "wrong value for pods: maybe") {
			err = fmt.Errorf("the log is\n%s", log)
		}
		return err
	})
	s.answers(t, "web.forms.svc.cluster.local.", dns.TypeA, "NOERROR", "10.254.3.5")

	write(t, s.corefile, strings.Replace(string(content), "pods insecure", "pods insecure\n        short_names", 1))
	s.answers(t, "web.forms.cluster.local.", dns.TypeA, "NOERROR", "10.254.3.5")
	s.answers(t, "web.forms.svc.cluster.local.", dns.TypeA, "NOERROR", "10.254.3.5")
}
