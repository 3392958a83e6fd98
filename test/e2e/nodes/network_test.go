package nodes

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// servers are one Pod on each node with a test server, one that uses the node's own
// network, and a Service of the first ones.
const servers = `
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {labelSelector: {matchLabels: {app: web}}, topologyKey: kubernetes.io/hostname}
      containers:
      - {name: web, image: IMAGE, args: [http, ":8080"]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: host}
spec:
  selector: {matchLabels: {app: host}}
  template:
    metadata: {labels: {app: host}}
    spec:
      hostNetwork: true
      containers:
      - {name: web, image: IMAGE, args: [http, ":8090"]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`

// answer is who answered a request and whom the server saw asking.
type answer struct{ host, client string }

func parseAnswer(text string) (answer, error) {
	host, address, ok := strings.Cut(strings.TrimSpace(text), " ")
	client, _, err := net.SplitHostPort(address)
	if !ok || err != nil {
		return answer{}, fmt.Errorf("no answer of a test server: %q", text)
	}
	return answer{host, client}, nil
}

// askFrom fetches a URL by a client of this machine or of a node.
func askFrom(ctx context.Context, client *http.Client, url string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	return parseAnswer(string(body))
}

// askFromPod fetches URLs by the test server's client in a Pod.
func (s *space) askFromPod(pod string, urls ...string) ([]answer, error) {
	script := "set -e\n"
	for _, url := range urls {
		script += "/testserver fetch " + url + "\n"
	}
	out, err := s.try("exec", pod, "--", "sh", "-c", script)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var answers []answer
	for line := range strings.Lines(strings.TrimSpace(out)) {
		a, err := parseAnswer(line)
		if err != nil {
			return nil, err
		}
		answers = append(answers, a)
	}
	return answers, nil
}

func TestThreeNodesAreReady(t *testing.T) {
	if len(nodeNames) != nodeCount {
		t.Fatalf("the Nodes are %v, want %d", nodeNames, nodeCount)
	}
	for _, name := range nodeNames {
		if got := nodeReady(t, name); got != corev1.ConditionTrue {
			t.Errorf("Ready of Node %s is %s", name, got)
		}
	}
	// Running it again changes nothing.
	if out, err := cluster.Keelson("up"); err != nil || !strings.Contains(out, "already up") {
		t.Errorf("keelson up again: %v\n%s", err, out)
	}
}

// TestEverybodyReachesEverybody is the matrix of requirement NET-12: Pods, nodes and
// Pods in the nodes' network, each to each, with the sources that servers see.
func TestEverybodyReachesEverybody(t *testing.T) {
	s := newSpace(t)
	s.apply(servers)
	pods, hosts := s.readyPods("web", nodeCount), s.readyPods("host", nodeCount)
	service := "http://" + s.run("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}") + ":80/"

	var urls, names []string
	for _, pod := range pods {
		urls, names = append(urls, "http://"+pod.Status.PodIP+":8080/"), append(names, pod.Name)
	}
	for _, host := range hosts {
		urls, names = append(urls, "http://"+host.Status.HostIP+":8090/"), append(names, host.Spec.NodeName)
	}
	nodesSeen := map[string]bool{}
	for _, pod := range pods {
		nodesSeen[pod.Spec.NodeName] = true
		eventually(t, soon, "Pod "+pod.Name+" reaches everybody", func() error {
			answers, err := s.askFromPod(pod.Name, append(urls, service)...)
			if err != nil {
				return err
			}
			return checkAnswers(answers, names, pod.Status.PodIP)
		})
	}
	if len(nodesSeen) != nodeCount {
		t.Errorf("the Pods are on the nodes %v only", nodesSeen)
	}
	clients := map[string]*http.Client{"this machine": {Transport: &http.Transport{DisableKeepAlives: true}}}
	for _, node := range nodeNames {
		clients["node "+node] = cluster.NodeClient(node)
	}
	for from, client := range clients {
		for i, url := range urls {
			eventually(t, soon, fmt.Sprintf("%s reaches %s at %s", from, names[i], url), func() error {
				a, err := askFrom(t.Context(), client, url)
				if err == nil && a.host != names[i] {
					err = fmt.Errorf("%s answered", a.host)
				}
				return err
			})
		}
		eventually(t, soon, from+" reaches the Service", func() error {
			_, err := askFrom(t.Context(), client, service)
			return err
		})
	}
}

// TestNodePortAnswersOnEveryNode asks from this machine, which is outside of the
// cluster, and on loopback of each node.
func TestNodePortAnswersOnEveryNode(t *testing.T) {
	s := newSpace(t)
	s.apply(servers)
	s.readyPods("web", nodeCount)
	port := s.run("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
	outside := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, node := range nodeNames {
		for url, client := range map[string]*http.Client{
			"http://" + addressOf(t, node) + ":" + port + "/": outside,
			"http://127.0.0.1:" + port + "/":                  cluster.NodeClient(node),
		} {
			eventually(t, soon, "node "+node+" answers at "+url, func() error {
				_, err := askFrom(t.Context(), client, url)
				return err
			})
		}
	}
}

// checkAnswers wants an answer of each name, and the source to be kept where the server
// is a Pod.
func checkAnswers(answers []answer, names []string, source string) error {
	if len(answers) != len(names)+1 { // and the Service's
		return fmt.Errorf("%d answers", len(answers))
	}
	for i, name := range names {
		if answers[i].host != name {
			return fmt.Errorf("%s answered instead of %s", answers[i].host, name)
		}
		if i < nodeCount && answers[i].client != source {
			return fmt.Errorf("Pod %s saw the client %s instead of %s", name, answers[i].client, source)
		}
	}
	return nil
}
