package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/examples/guestbook/images"
)

const (
	// silence is how long the manager waits for a silent node, toleration how long the
	// Guestbook's Pods stay bound to it then.
	silence, toleration = 40 * time.Second, 5 * time.Second
	// recovery is what is left for new Pods to be made and start.
	recovery = time.Minute
)

const tolerations = `    spec:
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
      containers:
`

// bound is a Pod that its owner has put on NODE, so that no scheduler chooses.
const bound = `
apiVersion: v1
kind: Pod
metadata: {name: bound}
spec:
  nodeName: NODE
  containers:
  - {name: web, image: IMAGE, args: [http, ":8080"]}
`

// TestGuestbookSurvivesTheLossOfANode switches off the node of the Redis master, on
// which everything else depends. A Pod that names this node waits for it.
func TestGuestbookSurvivesTheLossOfANode(t *testing.T) {
	s := newSpace(t)
	applyGuestbook(s)
	parts := map[string]int{"redis-master": 1, "redis-slave": 2, "frontend": 3}
	ready := func(context.Context) error {
		for name, want := range parts {
			out, err := s.try("get", "rc", name, "-o", "jsonpath={.status.readyReplicas}")
			if err != nil || out != fmt.Sprint(want) {
				return fmt.Errorf("%s has %s ready: %w", name, out, err)
			}
		}
		return nil
	}
	eventually(t, eventual, "the Guestbook is ready", func() error { return ready(t.Context()) })
	port := s.run("get", "service", "frontend", "-o", "jsonpath={.spec.ports[0].nodePort}")
	victim := s.run("get", "pods", "-l", "name=redis-master", "-o", "jsonpath={.items[0].spec.nodeName}")
	var survivor string
	for _, node := range nodeNames {
		if node != victim {
			survivor = addressOf(t, node)
		}
	}
	page := "http://" + survivor + ":" + port + "/"
	eventually(t, soon, "a message is kept", func() error { return keepMessage(t.Context(), page, "before") })

	begin := time.Now()
	keelson(t, "stop", victim)
	s.apply(strings.ReplaceAll(bound, "NODE", victim))
	t.Cleanup(func() { keelson(t, "start", victim) })
	awaitSince(t, begin, silence+toleration+recovery, "the Guestbook keeps messages without node "+victim, func(ctx context.Context) error {
		return keepMessage(ctx, page, "after")
	})
	if got := nodeReady(t, victim); got != corev1.ConditionUnknown {
		t.Errorf("Ready of the Node that is off is %s", got)
	}
	eventually(t, eventual, "all parts are ready elsewhere", func() error {
		out, err := s.try("get", "pods", "--field-selector", "spec.nodeName!="+victim, "-o", "json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var list corev1.PodList
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return err
		}
		count := 0
		for i := range list.Items {
			if isReady(&list.Items[i]) {
				count++
			}
		}
		if count != 6 {
			return fmt.Errorf("%d Pods are ready on other nodes", count)
		}
		return nil
	})

	if got := s.run("get", "pod", "bound", "-o", "jsonpath={.spec.nodeName} {.status.phase} {.metadata.deletionTimestamp}"); got != victim+" Pending " {
		t.Errorf("the Pod that names the lost node is %q", got)
	}

	keelson(t, "start", victim)
	awaitNode(t, victim, corev1.ConditionTrue)
	s.run("wait", "pod", "bound", "--for=condition=Ready", "--timeout=60s")
	s.run("delete", "pod", "bound", "--now")
	eventually(t, eventual, "nothing of before is left on node "+victim, func() error {
		out, err := s.try("get", "pods", "--field-selector", "spec.nodeName="+victim, "-o", "name")
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("there are %s", out)
		}
		return err
	})
	eventually(t, soon, "the Guestbook is ready after all", func() error { return ready(t.Context()) })
}

func applyGuestbook(s *space) {
	s.t.Helper()
	if _, err := images.Push(s.t.Context(), cluster.Registry, cluster.Root); err != nil {
		s.t.Fatal(err)
	}
	for _, name := range []string{"redis-master", "redis-slave", "frontend"} {
		text, err := os.ReadFile(filepath.Join(cluster.Root, "examples/guestbook", name+".yaml"))
		if err != nil {
			s.t.Fatal(err)
		}
		s.apply(strings.NewReplacer(
			"localhost:5557", cluster.Registry.Host, "core.keelson.dev/v1", "v1", "    spec:\n      containers:\n", tolerations,
		).Replace(string(text)))
	}
}

func addressOf(t *testing.T, node string) string {
	t.Helper()
	out, err := kubectl(t.Context(), "", "get", "node", node, "-o", `jsonpath={.status.addresses[0].address}`)
	if err != nil {
		t.Fatalf("get Node %s: %v\n%s", node, err, out)
	}
	return out
}

// keepMessage posts a message to the Guestbook's page and reads it back, which goes
// through a frontend, the master and a replica.
func keepMessage(ctx context.Context, page, message string) error {
	if _, err := ask(ctx, page, url.Values{"cmd": {"set"}, "key": {"messages"}, "value": {message}}); err != nil {
		return err
	}
	got, err := ask(ctx, page, url.Values{"cmd": {"get"}, "key": {"messages"}})
	if err == nil && got["data"] != message {
		err = fmt.Errorf("a replica holds %q", got["data"])
	}
	return err
}

func ask(ctx context.Context, page string, query url.Values) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	var answer map[string]string
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s: %q", response.Status, body)
	}
	return answer, nil
}
