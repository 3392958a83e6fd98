package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
)

const gatewayProgram = "keelson-gateway"

// plainConfig is a client library's way through the gateway.
func plainConfig(t *testing.T) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", cluster.PlainKubeconfig())
	must(t, err)
	config.QPS = -1
	return config
}

// watchers count who has seen a Service of a name.
func (s *space) watchers(config *rest.Config, count int) (seen func(name string) int) {
	s.t.Helper()
	clientset, err := kubernetes.NewForConfig(config)
	must(s.t, err)
	stop := make(chan struct{})
	s.t.Cleanup(func() { close(stop) })
	var stores []cache.Store
	var synced []cache.InformerSynced
	for range count {
		factory := informers.NewSharedInformerFactoryWithOptions(clientset, 0, informers.WithNamespace(s.Name))
		informer := factory.Core().V1().Services().Informer()
		stores, synced = append(stores, informer.GetStore()), append(synced, informer.HasSynced)
		factory.Start(stop)
	}
	if !cache.WaitForCacheSync(s.t.Context().Done(), synced...) {
		s.t.Fatal("the watches do not start")
	}
	return func(name string) (have int) {
		for _, store := range stores {
			if _, exists, err := store.GetByKey(s.Name + "/" + name); err == nil && exists {
				have++
			}
		}
		return have
	}
}

func (s *space) allSee(seen func(string) int, name string, count int) {
	s.t.Helper()
	s.eventually(eventual, fmt.Sprintf("%d watches see %s", count, name), func() error {
		if got := seen(name); got != count {
			return fmt.Errorf("%d do", got)
		}
		return nil
	})
}

// gatewayIsBack waits until a new gateway answers.
func (s *space) gatewayIsBack() {
	s.t.Helper()
	s.eventually(eventual, "the gateway answers", func() error {
		out, err := s.try("get", "pods")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

func TestGatewayKilledUnderWatchesAndSessions(t *testing.T) {
	const watches, sessions = 200, 20
	s := newPlainSpace(t)
	s.runningPod("box", "sleep 3600")
	config := plainConfig(t)
	seen := s.watchers(config, watches)
	s.run("create", "service", "clusterip", "before", "--tcp=80")
	s.allSee(seen, "before", watches)

	var ended atomic.Int32
	client, err := kubernetes.NewForConfig(config)
	must(t, err)
	started := make(chan struct{}, sessions)
	for range sessions {
		request := client.CoreV1().RESTClient().Post().Namespace(s.Name).Resource("pods").Name("box").SubResource("exec").
			VersionedParams(&corev1.PodExecOptions{Command: []string{"sh", "-c", "echo started; exec sleep 1234"}, Stdout: true}, scheme.ParameterCodec)
		executor, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, request.URL())
		must(t, err)
		go func() {
			_ = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: signalWriter(started)})
			ended.Add(1)
		}()
	}
	for range sessions {
		select {
		case <-started:
		case <-time.After(eventual):
			t.Fatal("the sessions do not start")
		}
	}

	kill(t, gatewayProgram, syscall.SIGKILL)
	s.eventually(soon, "the sessions end", func() error {
		if got := ended.Load(); got != sessions {
			return fmt.Errorf("%d of %d have", got, sessions)
		}
		return nil
	})
	s.gatewayIsBack()
	s.run("create", "service", "clusterip", "after", "--tcp=80")
	s.allSee(seen, "after", watches)
	s.eventually(soon, "the node ends the commands that nobody listens to", func() error {
		if pids := processesOf(t, "sleep", "1234"); len(pids) > 0 {
			return fmt.Errorf("%d still run", len(pids))
		}
		return nil
	})
}

// signalWriter tells of each write.
type signalWriter chan struct{}

func (w signalWriter) Write(p []byte) (int, error) {
	w <- struct{}{}
	return len(p), nil
}

func TestAPIServerRestartsBehindTheGateway(t *testing.T) {
	const watches = 20
	s := newPlainSpace(t)
	seen := s.watchers(plainConfig(t), watches)
	gateway := processesOf(t, gatewayProgram)
	withoutSupervisor(t, func() {
		kill(t, "kube-apiserver", syscall.SIGKILL)
		s.eventually(soon, "a clear refusal", func() error {
			out, err := s.try("get", "pods")
			if err == nil {
				return fmt.Errorf("answered %s", out)
			}
			return wantIn(out, "ServiceUnavailable")
		})
	})
	s.gatewayIsBack()
	s.eventually(eventual, "Services can be made again", func() error {
		out, err := s.try("create", "service", "clusterip", "after", "--tcp=80")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	s.allSee(seen, "after", watches)
	if now := processesOf(t, gatewayProgram); fmt.Sprint(now) != fmt.Sprint(gateway) {
		t.Errorf("the gateway was process %v and is %v", gateway, now)
	}
}

// TestSlowClientCostsTheGatewayLittle opens watches, lets them fill and never reads.
func TestSlowClientCostsTheGatewayLittle(t *testing.T) {
	// A watch that nobody reads holds what HTTP/2 lets the API server send ahead, 4 MiB,
	// and garbage as much again or more; not the 25 MiB that each of these would be sent,
	// twice with garbage.
	const clients, changes, size, allowed = 10, 400, 64 << 10, 10 * 14 << 20
	s := newPlainSpace(t)
	config := plainConfig(t)
	client, err := kubernetes.NewForConfig(config)
	must(t, err)
	s.apply("apiVersion: v1\nkind: Service\nmetadata: {name: busy}\nspec: {ports: [{port: 80}]}\n")

	change := func(count int) {
		t.Helper()
		for i := range count {
			patch := fmt.Sprintf(`{"metadata":{"annotations":{"filler":%q}}}`, strings.Repeat(strconv.Itoa(i%10), size))
			_, err := client.CoreV1().Services(s.Name).Patch(t.Context(), "busy", "application/merge-patch+json", []byte(patch), metav1.PatchOptions{})
			must(t, err)
		}
	}
	change(changes / 4) // what the changes themselves cost
	before := residentSize(t, gatewayProgram)
	for range clients {
		// A connection for each: none may hide behind another's window.
		alone := rest.CopyConfig(config)
		alone.Dial = nil
		alone.NextProtos = []string{"http/1.1"}
		http1, err := rest.HTTPClientFor(alone)
		must(t, err)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+"/api/v1/namespaces/"+s.Name+"/services?watch=true", nil)
		must(t, err)
		response, err := http1.Do(request)
		must(t, err)
		t.Cleanup(func() { response.Body.Close() })
	}
	change(changes)
	if grown := residentSize(t, gatewayProgram) - before; grown > allowed {
		t.Errorf("the gateway grew by %d MiB for clients that do not read", grown>>20)
	}
}

// residentSize is the memory of the one process of a program, in bytes.
func residentSize(t *testing.T, program string) int64 {
	t.Helper()
	pids := processesOf(t, program)
	if len(pids) != 1 {
		t.Fatalf("%d processes %s", len(pids), program)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[0]))
	must(t, err)
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kib, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			must(t, err)
			return kib << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
