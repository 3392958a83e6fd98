package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// lattice are three namespaces, x, y and z, with three Pods each, a, b and c, which all
// serve port 8080 under the name web. Each is labelled with its short name.
type lattice struct {
	*space
	// namespaces by short name; ips by "x/a".
	namespaces map[string]string
	ips        map[string]string
}

func newLattice(t *testing.T) *lattice {
	t.Helper()
	s := newSpace(t)
	l := &lattice{space: s, namespaces: map[string]string{"x": s.Name, "y": s.Name + "-y", "z": s.Name + "-z"}, ips: map[string]string{}}
	for short, name := range l.namespaces {
		if name != s.Name {
			s.run("create", "namespace", name)
			t.Cleanup(func() { s.cleanup("delete", "namespace", name) })
		}
		s.run("label", "namespace", name, "ns="+short)
		for _, pod := range []string{"a", "b", "c"} {
			l.in(short).apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: %s, labels: {pod: %[1]s}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: %s
    args: [http, ":8080"]
    ports: [{name: web, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /, port: web}, periodSeconds: 1}
`, pod, cluster.Image(testserverImage)))
		}
	}
	for short := range l.namespaces {
		for _, name := range []string{"a", "b", "c"} {
			pod := l.in(short).podWhen(name, "ready", ready)
			l.ips[short+"/"+name] = pod.Status.PodIP
		}
	}
	return l
}

func ready(pod *keelsonv1.Pod) error {
	if c := conditionOf(pod, "Ready"); c.Status != "True" {
		return fmt.Errorf("not ready: %s", c.Message)
	}
	return nil
}

func (l *lattice) in(short string) *space { return &space{t: l.t, Name: l.namespaces[short]} }

// asks returns whom a Pod reaches, of all nine. The questions are asked at once.
func (l *lattice) asks(from string) (string, error) {
	short, name, _ := strings.Cut(from, "/")
	var script strings.Builder
	for _, to := range slices.Sorted(maps.Keys(l.ips)) {
		fmt.Fprintf(&script, "(timeout 2 /testserver fetch http://%s:8080/ >/dev/null 2>&1 && echo %s) & ", l.ips[to], to)
	}
	out, err := l.in(short).plainOf().try("exec", name, "--", "sh", "-c", script.String()+"wait")
	return strings.Join(slices.Sorted(slices.Values(strings.Fields(out))), " "), err
}

// reaches waits until each of the named Pods reaches exactly those.
func (l *lattice) reaches(want map[string]string) {
	l.t.Helper()
	for from, whom := range want {
		l.eventually(eventual, from+" reaches "+whom, func() error {
			got, err := l.asks(from)
			if err == nil && got != whom {
				err = fmt.Errorf("reaches %q", got)
			}
			return err
		})
	}
}

const everybody = "x/a x/b x/c y/a y/b y/c z/a z/b z/c"

func TestNetworkPolicies(t *testing.T) {
	l := newLattice(t)
	l.reaches(map[string]string{"x/a": everybody, "z/c": everybody})

	t.Log("Policies add up: nobody, but by label of Pod and namespace")
	l.apply(`
apiVersion: networking.keelson.dev/v1
kind: NetworkPolicy
metadata: {name: nobody}
spec: {podSelector: {}, policyTypes: [Ingress]}
---
apiVersion: networking.keelson.dev/v1
kind: NetworkPolicy
metadata: {name: some}
spec:
  podSelector: {matchLabels: {pod: a}}
  ingress:
  - from:
    - podSelector: {matchLabels: {pod: b}}
    - {namespaceSelector: {matchLabels: {ns: "y"}}, podSelector: {matchLabels: {pod: c}}}
    ports: [{port: web}]
`)
	if err := wantIn(l.run("get", "networkpolicies.networking.keelson.dev"), "POD-SELECTOR", "pod=a", "<none>"); err != nil {
		t.Error(err)
	}
	const others = "y/a y/b y/c z/a z/b z/c"
	l.reaches(map[string]string{
		"x/a": "x/a " + others, // itself always
		"x/b": "x/a x/b " + others,
		"y/c": "x/a " + others,
		"z/c": others,
	})

	t.Log("Probes of the node get through; a label that changes counts at once")
	l.podWhen("c", "still ready", ready)
	l.in("z").run("label", "kpo", "c", "pod=b", "--overwrite")
	l.run("label", "kpo", "c", "pod=b", "--overwrite")
	l.reaches(map[string]string{"x/c": "x/a x/c " + others, "z/c": others})

	t.Log("Egress to a range without an exception")
	l.run("delete", "networkpolicies.networking.keelson.dev", "--all")
	l.apply(fmt.Sprintf(`
apiVersion: networking.keelson.dev/v1
kind: NetworkPolicy
metadata: {name: out}
spec:
  podSelector: {matchLabels: {pod: a}}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [%s/32]}}], ports: [{port: 8080}]}]
`, l.ips["z/a"]))
	l.reaches(map[string]string{"x/a": "x/a x/b x/c y/a y/b y/c z/b z/c", "x/b": everybody, "y/a": everybody})

	t.Log("A Service is judged by the Pod that answers")
	l.run("delete", "networkpolicies.networking.keelson.dev", "--all")
	l.apply(`
apiVersion: core.keelson.dev/v1
kind: Service
metadata: {name: web}
spec: {selector: {pod: a}, ports: [{port: 80, targetPort: web}]}
---
apiVersion: networking.keelson.dev/v1
kind: NetworkPolicy
metadata: {name: service}
spec:
  podSelector: {matchLabels: {pod: b}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {pod: a}}}]}]
`)
	l.reaches(map[string]string{"x/b": "x/a x/b"})
	l.endpoints("web", 1)
	ip := l.serviceIP("web")
	l.eventually(eventual, "b reaches a through the Service", func() error {
		out, err := l.plainOf().try("exec", "b", "--", "timeout", "3", "/testserver", "fetch", "http://"+ip+"/")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})

	t.Log("What is impossible is refused in upstream's words")
	out, err := l.tryApply(`
apiVersion: networking.keelson.dev/v1
kind: NetworkPolicy
metadata: {name: bad}
spec:
  podSelector: {}
  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [192.0.2.0/24]}}], ports: [{port: 90, endPort: 80}]}]
`)
	if err == nil {
		t.Error("a policy with an impossible range was taken")
	}
	if err := wantIn(out, "spec.ingress[0].from[0].ipBlock.except[0]", "must be a strict subset of `cidr`", "must be greater than or equal to `port`"); err != nil {
		t.Error(err)
	}
}
