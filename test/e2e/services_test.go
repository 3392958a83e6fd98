package e2e

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/env/machine"
)

// service selects app=<name> and maps port 80 to the named port web.
func service(name, extra string) string {
	return fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Service
metadata: {name: %s}
spec:
  selector: {app: %[1]s}
  ports: [{name: http, port: 80, targetPort: web}]
  %s
`, name, extra)
}

// client is a Pod in which a script runs; it returns what the script printed.
func (s *space) client(name, script string) string {
	s.t.Helper()
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: %s, command: [sh, -c, %q]}]
`, name, cluster.Image(testserverImage), script))
	pod := s.podWhen(name, "done", func(pod *keelsonv1.Pod) error {
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			return fmt.Errorf("phase %s", pod.Status.Phase)
		}
		return nil
	})
	return logs(s.t, pod, "main")
}

func (s *space) serviceIP(name string) string {
	s.t.Helper()
	ip := ""
	s.eventually(soon, name+" has an address", func() error {
		if ip = s.run("get", "ksvc", name, "-o", "jsonpath={.spec.clusterIP}"); ip == "" {
			return fmt.Errorf("none yet")
		}
		return nil
	})
	return ip
}

// endpoints waits until the Endpoints list this many ready addresses.
func (s *space) endpoints(name string, count int) *keelsonv1.Endpoints {
	s.t.Helper()
	found := &keelsonv1.Endpoints{}
	s.eventually(eventual, fmt.Sprintf("%s has %d endpoints", name, count), func() error {
		*found = keelsonv1.Endpoints{}
		if err := s.get(found, "kep", name); err != nil {
			return err
		}
		got := 0
		for _, subset := range found.Subsets {
			got += len(subset.Addresses)
		}
		if got != count {
			return fmt.Errorf("%d addresses", got)
		}
		return nil
	})
	return found
}

func TestClusterIPBalancesOverReadyPods(t *testing.T) {
	s := newSpace(t)
	s.apply(controller("web", 3))
	s.apply(service("web", ""))
	s.ready("web", 3)
	ip := s.serviceIP("web")
	s.endpoints("web", 3)

	hostnames := func(printed string) map[string]int {
		count := map[string]int{}
		for line := range strings.Lines(printed) {
			count[strings.Fields(line)[0]]++
		}
		return count
	}
	ask := "i=0; while [ $i -lt 40 ]; do /testserver fetch http://" + ip + ":80/ || exit 1; i=$((i+1)); done"
	got := hostnames(s.client("asker", ask))
	if want := s.pods("app=web"); !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("answers came from %v, want each of %v", got, want)
	}

	t.Log("The source address of a Pod is kept")
	out := s.client("source", "/testserver fetch http://"+ip+"/; hostname -i")
	if lines := strings.Fields(strings.ReplaceAll(out, ":", " ")); len(lines) < 4 || lines[1] != lines[3] {
		t.Errorf("server saw another address than the client's own: %q", out)
	}

	t.Log("Session affinity sends one client to one Pod")
	s.run("patch", "ksvc", "web", "--type=merge", "-p", `{"spec":{"sessionAffinity":"ClientIP"}}`)
	s.eventually(eventual, "affinity", func() error {
		name := fmt.Sprintf("sticky-%d", time.Now().UnixNano())
		if got := hostnames(s.client(name, ask)); len(got) != 1 {
			return fmt.Errorf("answers came from %v", got)
		}
		return nil
	})

	t.Log("Without endpoints a connection is refused at once")
	s.run("scale", "krc", "web", "--replicas=0")
	s.endpoints("web", 0)
	s.eventually(eventual, "refusal", func() error {
		name := fmt.Sprintf("refused-%d", time.Now().UnixNano())
		return wantIn(s.client(name, "/testserver fetch http://"+ip+"/ 2>&1"), "refused")
	})
}

func TestPodReachesItselfThroughItsService(t *testing.T) {
	s := newSpace(t)
	s.apply(service("loop", ""))
	ip := s.serviceIP("loop")
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: loop, labels: {app: loop}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {name: server, image: %[1]s, args: [http, ":8080"], ports: [{name: web, containerPort: 8080}]}
  - {name: client, image: %[1]s, command: [sh, -c, "until /testserver fetch http://%[2]s/; do sleep 0.2; done"]}
`, cluster.Image(testserverImage), ip))
	s.podWhen("loop", "client done", func(pod *keelsonv1.Pod) error {
		for _, status := range pod.Status.ContainerStatuses {
			if status.Name == "client" && status.State.Terminated != nil {
				return nil
			}
		}
		return fmt.Errorf("client still asks")
	})
}

func TestUDPService(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{port: 5353, protocol: UDP, targetPort: 9000}]
---
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: echo-1, labels: {app: echo}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: %[1]s, args: [udp, ":9000"]}]
`, cluster.Image(testserverImage)))
	ip := s.serviceIP("echo")
	s.endpoints("echo", 1)
	s.eventually(eventual, "answer", func() error {
		name := fmt.Sprintf("udp-%d", time.Now().UnixNano())
		return wantIn(s.client(name, "/testserver dial udp "+ip+":5353"), "echo-1 ")
	})
}

func TestNodePortOnEveryAddress(t *testing.T) {
	s := newSpace(t)
	s.apply(controller("web", 2))
	s.apply(service("web", "type: NodePort"))
	s.ready("web", 2)
	port := ""
	s.eventually(soon, "node port", func() error {
		if port = s.run("get", "ksvc", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"); port == "" {
			return fmt.Errorf("none yet")
		}
		return nil
	})
	if err := wantIn(s.run("get", "ksvc", "web"), "NodePort", "80:"+port+"/TCP"); err != nil {
		t.Error(err)
	}
	for _, host := range []string{"127.0.0.1", machine.NodeIP} {
		s.eventually(eventual, "answer on "+host, func() error {
			client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			response, err := client.Get("http://" + host + ":" + port + "/")
			if err != nil {
				return err
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				return err
			}
			return wantIn(string(body), "web-")
		})
	}
}

func TestServiceEnvironmentVariables(t *testing.T) {
	s := newSpace(t)
	s.apply(service("front-end", ""))
	ip := s.serviceIP("front-end")
	var out string
	s.eventually(soon, "variables", func() error {
		out = s.client(fmt.Sprintf("env-%d", time.Now().UnixNano()), "env")
		return wantIn(out, "FRONT_END_SERVICE_HOST="+ip+"\n")
	})
	for _, want := range []string{
		"FRONT_END_SERVICE_PORT=80\n", "FRONT_END_SERVICE_PORT_HTTP=80\n",
		"FRONT_END_PORT=tcp://" + ip + ":80\n", "FRONT_END_PORT_80_TCP=tcp://" + ip + ":80\n",
		"FRONT_END_PORT_80_TCP_PROTO=tcp\n", "FRONT_END_PORT_80_TCP_PORT=80\n", "FRONT_END_PORT_80_TCP_ADDR=" + ip + "\n",
		"KUBERNETES_SERVICE_HOST=10.254.0.1\n", "KUBERNETES_SERVICE_PORT=443\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}

	t.Log("A Service made after a Pod started is not added to it")
	s.apply(shellPod("early", "Never", "while [ ! -e /tmp/go-on ]; do sleep 0.1; done; env"))
	early := s.phase("early", corev1.PodRunning)
	s.apply(service("later", ""))
	s.serviceIP("later")
	shells := processesOf(t, "sh", "/tmp/go-on")
	if len(shells) != 1 {
		t.Fatalf("processes of the Pod: %v", shells)
	}
	must(t, os.WriteFile(fmt.Sprintf("/proc/%d/root/tmp/go-on", shells[0]), nil, 0o600))
	s.phase("early", corev1.PodSucceeded)
	if printed := logs(t, early, "c0"); !strings.Contains(printed, "FRONT_END_SERVICE_HOST=") || strings.Contains(printed, "LATER_") {
		t.Errorf("want variables of front-end and none of later in\n%s", printed)
	}
	s.eventually(soon, "a newer Pod has them", func() error {
		return wantIn(s.client(fmt.Sprintf("newer-%d", time.Now().UnixNano()), "env"), "LATER_SERVICE_HOST=")
	})
}

func TestKubernetesServiceLeadsToTheAPIServer(t *testing.T) {
	s := newSpace(t)
	s.eventually(eventual, "an answer from the API server", func() error {
		name := fmt.Sprintf("api-%d", time.Now().UnixNano())
		out := s.client(name, "/testserver fetch https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/ 2>&1")
		return wantIn(out, "certificate signed by unknown authority")
	})
}

func TestUnreadyPodsAreListedApart(t *testing.T) {
	s := newSpace(t)
	s.apply(service("late", ""))
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: late, labels: {app: late}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: server, image: %[1]s, args: [http, ":8080"], ports: [{name: web, containerPort: 8080}]}
  - {name: other, image: %[1]s, command: [sh, -c, "exit 1"]}
`, cluster.Image(testserverImage)))
	s.eventually(eventual, "not-ready address", func() error {
		found := &keelsonv1.Endpoints{}
		if err := s.get(found, "kep", "late"); err != nil {
			return err
		}
		for _, subset := range found.Subsets {
			if len(subset.NotReadyAddresses) == 1 && len(subset.Addresses) == 0 && subset.Ports[0].Port == 8080 {
				return nil
			}
		}
		return fmt.Errorf("subsets %+v", found.Subsets)
	})
}

func TestOnePortNumberForTwoProtocols(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Service
metadata: {name: dns}
spec:
  clusterIP: 10.254.88.8
  selector: {app: dns}
  ports:
  - {name: dns, port: 53, protocol: UDP, targetPort: dns}
  - {name: dns-tcp, port: 53, protocol: TCP, targetPort: dns-tcp}
---
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: dns, labels: {app: dns}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: udp
    image: %[1]s
    args: [udp, ":5353"]
    ports: [{name: dns, containerPort: 5353, protocol: UDP}, {name: dns-tcp, containerPort: 5353, protocol: TCP}]
  - {name: tcp, image: %[1]s, args: [tcp, ":5353"]}
`, cluster.Image(testserverImage)))
	s.endpoints("dns", 1)
	if err := wantIn(s.run("get", "ksvc", "dns"), "10.254.88.8", "53/UDP,53/TCP"); err != nil {
		t.Error(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		s.eventually(eventual, "answer over "+network, func() error {
			name := fmt.Sprintf("%s-%d", network, time.Now().UnixNano())
			return wantIn(s.client(name, "/testserver dial "+network+" 10.254.88.8:53"), "dns ")
		})
	}
}

func TestHeadlessAndHandMadeServices(t *testing.T) {
	s := newSpace(t)
	s.apply(controller("web", 1))
	s.ready("web", 1)
	s.apply(strings.Replace(service("headless", "clusterIP: None"), "selector: {app: headless}", "selector: {app: web}", 1))
	s.endpoints("headless", 1)
	s.eventually(soon, "columns", func() error { return wantIn(s.run("get", "ksvc", "headless"), "ClusterIP", "None") })

	t.Log("A Service without a selector leads where its hand-made Endpoints say")
	pod := s.phase(s.pods("app=web")[0], corev1.PodRunning)
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Service
metadata: {name: manual}
spec:
  ports: [{port: 3306, targetPort: 8080}]
---
apiVersion: core.keelson.dev/v1
kind: Endpoints
metadata: {name: manual}
subsets:
- addresses: [{ip: %s}]
  ports: [{port: 8080}]
`, pod.Status.PodIP))
	if err := wantIn(s.run("get", "kep", "manual"), pod.Status.PodIP+":8080"); err != nil {
		t.Error(err)
	}
	ip := s.serviceIP("manual")
	s.eventually(eventual, "answer", func() error {
		name := fmt.Sprintf("manual-%d", time.Now().UnixNano())
		return wantIn(s.client(name, "/testserver fetch http://"+ip+":3306/"), pod.Name)
	})
}
