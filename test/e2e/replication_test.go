package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// controller is a ReplicationController whose Pods sleep.
func controller(name string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: ReplicationController
metadata: {name: %s}
spec:
  replicas: %d
  selector: {app: %[1]s}
  template:
    metadata: {labels: {app: %[1]s, version: v1}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: %[3]s, args: [http, ":8080"], ports: [{name: web, containerPort: 8080}]}
`, name, replicas, cluster.Image(testserverImage))
}

// pods are the names that a selector finds, Pods being deleted left out.
func (s *space) pods(selector string) []string {
	s.t.Helper()
	return strings.Fields(s.run("get", "kpo", "-l", selector, "-o",
		"go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}"))
}

// ready waits until a controller has exactly this many Pods, all ready.
func (s *space) ready(name string, replicas int) {
	s.t.Helper()
	s.eventually(eventual, fmt.Sprintf("%s at %d", name, replicas), func() error {
		out, err := s.try("get", "krc", name, "--no-headers")
		if err != nil {
			return err
		}
		count := fmt.Sprint(replicas)
		if fields := strings.Fields(out); len(fields) < 4 || !slices.Equal(fields[1:4], []string{count, count, count}) {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

func TestReplicationControllerKeepsTheCount(t *testing.T) {
	s := newSpace(t)
	s.apply(controller("web", 2))
	s.ready("web", 2)

	t.Log("A deleted Pod is replaced by one with a new name")
	before := s.pods("app=web")
	s.run("delete", "kpo", before[0])
	s.ready("web", 2)
	after := s.pods("app=web")
	if slices.Contains(after, before[0]) || !slices.Contains(after, before[1]) {
		t.Errorf("Pods were %v, then %v", before, after)
	}

	t.Log("kubectl scale changes the count in both directions")
	for _, replicas := range []int{4, 1, 0, 2} {
		s.run("scale", "krc", "web", fmt.Sprintf("--replicas=%d", replicas))
		s.ready("web", replicas)
		s.eventually(eventual, "exact count", func() error {
			if got := s.pods("app=web"); len(got) != replicas {
				return fmt.Errorf("Pods %v", got)
			}
			return nil
		})
	}
	if out, err := s.try("scale", "krc", "web", "--current-replicas=9", "--replicas=3"); err == nil || !strings.Contains(out, "9") {
		t.Errorf("a wrong --current-replicas was accepted: %s", out)
	}
}

func TestReplicationControllerReleasesAndAdopts(t *testing.T) {
	s := newSpace(t)
	s.apply(controller("web", 2))
	s.ready("web", 2)

	t.Log("A Pod whose label is changed is released, and replaced")
	released := s.pods("app=web")[0]
	s.run("label", "kpo", released, "app=debug", "--overwrite")
	s.eventually(eventual, "replacement", func() error {
		if got := s.pods("app=web"); len(got) != 2 || slices.Contains(got, released) {
			return fmt.Errorf("Pods %v", got)
		}
		return nil
	})
	s.eventually(soon, "no owner", func() error {
		if owner := s.run("get", "kpo", released, "-o", "jsonpath={.metadata.ownerReferences}"); owner != "" && owner != "[]" {
			return fmt.Errorf("still owned: %s", owner)
		}
		return nil
	})

	t.Log("Labelled back, it is one too many, and one goes")
	s.run("label", "kpo", released, "app=web", "--overwrite")
	s.eventually(eventual, "two again", func() error {
		if got := s.pods("app=web"); len(got) != 2 {
			return fmt.Errorf("Pods %v", got)
		}
		return nil
	})

	t.Log("Orphaned Pods stay, and a new controller adopts them")
	s.ready("web", 2)
	kept := s.pods("app=web")
	s.run("delete", "krc", "web", "--cascade=orphan")
	s.gone("krc", "web")
	s.consistently(3*time.Second, "Pods stay", func() error {
		if got := s.pods("app=web"); !slices.Equal(got, kept) {
			return fmt.Errorf("Pods %v, want %v", got, kept)
		}
		return nil
	})
	s.apply(controller("web", 2))
	s.ready("web", 2)
	if got := s.pods("app=web"); !slices.Equal(got, kept) {
		t.Errorf("Pods %v, want the adopted %v", got, kept)
	}

	t.Log("Deleted with its Pods by default")
	s.run("delete", "krc", "web")
	s.eventually(eventual, "no Pods", func() error {
		if out := s.run("get", "kpo", "-l", "app=web"); !strings.Contains(out, "No resources found") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

func TestNamespaceDeletionTakesEverything(t *testing.T) {
	s := newSpace(t)
	other := "e2e-doomed"
	if out, err := kubectl(t.Context(), "", "create", "namespace", other); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	doomed := &space{t: t, Name: other}
	doomed.apply(controller("web", 2))
	doomed.ready("web", 2)
	doomed.run("create", "configmap", "settings", "--from-literal=a=b")
	doomed.eventually(soon, "default ServiceAccount", func() error {
		_, err := doomed.try("get", "serviceaccount", "default")
		return err
	})
	doomed.run("delete", "namespace", other)
	s.gone("namespace", other)
}

func TestCascadeReachesStockKinds(t *testing.T) {
	s := newSpace(t)
	s.run("create", "configmap", "owner")
	uid := s.run("get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}")
	s.apply(fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata:
  name: dependent
  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: owner, uid: %s}]
`, uid))
	s.run("delete", "configmap", "owner")
	s.gone("secret", "dependent")
}

func TestControllerTakesLabelsAndSelectorFromItsTemplate(t *testing.T) {
	s := newSpace(t)
	bare := strings.NewReplacer("  replicas: 1\n", "", "  selector: {app: bare}\n", "",
		"metadata: {labels: {app: bare, version: v1}}", "metadata: {name: ignored, labels: {app: bare, version: v1}}").
		Replace(controller("bare", 1))
	s.apply(bare)
	s.ready("bare", 1)
	if err := wantIn(s.run("get", "krc", "-l", "app=bare,version=v1", "-o", "wide"), "app=bare,version=v1"); err != nil {
		t.Error(err)
	}
	if names := s.pods("app=bare"); len(names) != 1 || !strings.HasPrefix(names[0], "bare-") {
		t.Errorf("Pods %v, want one named after the controller, not after the template", names)
	}
}

func TestTemplateChangeReachesOnlyNewPods(t *testing.T) {
	s := newSpace(t)
	s.apply(controller("web", 1))
	s.ready("web", 1)
	old := s.pods("app=web")[0]
	s.run("patch", "krc", "web", "--type=merge", "-p", `{"spec":{"replicas":2,"template":{"metadata":{"labels":{"version":"v2"}}}}}`)
	s.ready("web", 2)
	if got := s.pods("app=web,version=v1"); !slices.Equal(got, []string{old}) {
		t.Errorf("Pods of the old template: %v, want %s alone", got, old)
	}
	if got := s.pods("app=web,version=v2"); len(got) != 1 {
		t.Errorf("Pods of the new template: %v, want one", got)
	}
}
