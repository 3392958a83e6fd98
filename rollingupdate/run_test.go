package rollingupdate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// store is an API whose Pods are ready at once, and which can fail the next call.
type store struct {
	objects map[string]*unstructured.Unstructured
	// before sees every writing call and can refuse it.
	before func(call string) error
	// calls are all writing ones, newest last.
	calls []string
	// broken names the one whose Pods never become available.
	broken string
}

var notFound = schema.GroupResource{Resource: resource}

func (s *store) write(call string) error {
	s.calls = append(s.calls, call)
	if s.before == nil {
		return nil
	}
	return s.before(call)
}

func (s *store) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	rc, ok := s.objects[name]
	if !ok {
		return nil, apierrors.NewNotFound(notFound, name)
	}
	rc = rc.DeepCopy()
	replicas, _, _ := unstructured.NestedInt64(rc.Object, "spec", "replicas")
	if name == s.broken {
		replicas = 0
	}
	return rc, unstructured.SetNestedField(rc.Object, replicas, "status", "availableReplicas")
}

func (s *store) Create(_ context.Context, rc *unstructured.Unstructured, _ metav1.CreateOptions, _ ...string) (*unstructured.Unstructured, error) {
	if err := s.write("create " + rc.GetName()); err != nil {
		return nil, err
	}
	rc = rc.DeepCopy()
	rc.SetUID(types.UID(rc.GetName()))
	s.objects[rc.GetName()] = rc
	return rc.DeepCopy(), nil
}

func (s *store) Patch(_ context.Context, name string, _ types.PatchType, data []byte, _ metav1.PatchOptions, _ ...string) (*unstructured.Unstructured, error) {
	if err := s.write("patch " + name); err != nil {
		return nil, err
	}
	was, err := json.Marshal(s.objects[name].Object)
	if err != nil {
		return nil, err
	}
	is, err := jsonpatch.MergePatch(was, data)
	if err != nil {
		return nil, err
	}
	rc := &unstructured.Unstructured{}
	if err := rc.UnmarshalJSON(is); err != nil {
		return nil, err
	}
	s.objects[name] = rc
	return rc.DeepCopy(), nil
}

func (s *store) Delete(_ context.Context, name string, _ metav1.DeleteOptions, _ ...string) error {
	if err := s.write("delete " + name); err != nil {
		return err
	}
	delete(s.objects, name)
	return nil
}

func manifest(t *testing.T, name, version, replicas string) *unstructured.Unstructured {
	t.Helper()
	rc, err := Manifest(strings.NewReader(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: ReplicationController
metadata: {name: %s}
spec:
  %s
  selector: {app: my-web, version: %s}
  template:
    metadata: {labels: {app: my-web, version: %s}}
`, name, replicas, version, version)))
	if err != nil {
		t.Fatal(err)
	}
	return rc
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{objects: map[string]*unstructured.Unstructured{}}
	if _, err := s.Create(t.Context(), manifest(t, "my-web-v1", "v1", "replicas: 4"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *store) run(t *testing.T, rollback bool) (output string, err error) {
	t.Helper()
	var out strings.Builder
	err = Run(t.Context(), Options{
		API: s, Old: "my-web-v1", Manifest: manifest(t, "my-web-v2", "v2", ""), Rollback: rollback,
		Timeout: time.Minute, Out: &out,
	})
	return out.String(), err
}

func TestRunTellsWhatItDoes(t *testing.T) {
	s := newStore(t)
	got, err := s.run(t, false)
	if err != nil {
		t.Fatal(err)
	}
	want := `Created my-web-v2
Scaling up my-web-v2 from 0 to 4, scaling down my-web-v1 from 4 to 0 (keep 4 pods available, don't exceed 5 pods)
Scaling my-web-v2 up to 1
Scaling my-web-v1 down to 3
Scaling my-web-v2 up to 2
Scaling my-web-v1 down to 2
Scaling my-web-v2 up to 3
Scaling my-web-v1 down to 1
Scaling my-web-v2 up to 4
Scaling my-web-v1 down to 0
Update succeeded. Deleting my-web-v1
replicationcontroller "my-web-v1" rolling updated to "my-web-v2"
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	s.mustHaveOnly(t, "my-web-v2")
}

// mustHaveOnly also says that no trace of the update is left.
func (s *store) mustHaveOnly(t *testing.T, name string) {
	t.Helper()
	if len(s.objects) != 1 || s.objects[name] == nil {
		t.Fatalf("objects %v, want %s alone", s.objects, name)
	}
	if rc := s.objects[name]; sizeOf(rc) != 4 || len(rc.GetAnnotations()) != 0 {
		t.Errorf("%s has size %d and annotations %v", name, sizeOf(rc), rc.GetAnnotations())
	}
}

// TestRunGoesOnAfterAnyInterruption fails each write in turn: before it is done, and with
// its answer lost.
func TestRunGoesOnAfterAnyInterruption(t *testing.T) {
	whole := newStore(t)
	if _, err := whole.run(t, false); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("connection lost")
	for at := 1; at < len(whole.calls); at++ {
		for _, rollback := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d (%s), rollback %t", at, whole.calls[at], rollback), func(t *testing.T) {
				s := newStore(t)
				s.before = func(string) error {
					if len(s.calls) == at+1 {
						return broken
					}
					return nil
				}
				if _, err := s.run(t, false); !errors.Is(err, broken) {
					t.Fatalf("want the failure, got %v", err)
				}
				s.before = nil
				started := s.objects["my-web-v2"] != nil
				atTheEnd := s.objects["my-web-v1"] == nil
				output, err := s.run(t, rollback)
				switch {
				case rollback && (!started || atTheEnd):
					if err == nil {
						t.Errorf("nothing to roll back, but:\n%s", output)
					}
				case err != nil:
					t.Fatal(err)
				case rollback:
					s.mustHaveOnly(t, "my-web-v1")
				default:
					s.mustHaveOnly(t, "my-web-v2")
				}
			})
		}
	}
}

func TestRollbackTellsWhatItDoes(t *testing.T) {
	s := newStore(t)
	s.before = func(call string) error {
		if sizeOf(s.objects["my-web-v1"]) == 3 && s.objects["my-web-v2"] != nil && sizeOf(s.objects["my-web-v2"]) == 2 {
			return errors.New("interrupted here")
		}
		return nil
	}
	if _, err := s.run(t, false); err == nil || !strings.Contains(err.Error(), "--rollback") {
		t.Fatalf("the error does not say how to go on: %v", err)
	}
	s.before = nil
	got, err := s.run(t, true)
	if err != nil {
		t.Fatal(err)
	}
	want := `Setting "my-web-v1" replicas to 4
Continuing update with existing controller my-web-v1.
Scaling up my-web-v1 from 3 to 4, scaling down my-web-v2 from 2 to 0 (keep 2 pods available, don't exceed 3 pods)
Scaling my-web-v2 down to 0
Scaling my-web-v1 up to 4
Update succeeded. Deleting my-web-v2
replicationcontroller "my-web-v1" rolled back from "my-web-v2"
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	s.mustHaveOnly(t, "my-web-v1")
}

// TestUpdatePeriodIsWaitedAfterEachGrowth: four of them for four Pods.
func TestUpdatePeriodIsWaitedAfterEachGrowth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := Run(t.Context(), Options{
			API: newStore(t), Old: "my-web-v1", Manifest: manifest(t, "my-web-v2", "v2", ""),
			UpdatePeriod: 10 * time.Second, Timeout: time.Minute, Out: &strings.Builder{},
		})
		if took := time.Since(began); err != nil || took != 40*time.Second {
			t.Errorf("took %s, want 40s; %v", took, err)
		}
	})
}

// TestNothingMovesForTooLong: Pods that never become available end the update, not the
// cluster.
func TestNothingMovesForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.broken = "my-web-v2"
		_, err := s.run(t, false)
		if err == nil || !strings.Contains(err.Error(), "after 1m0s (--timeout) still 0 of 1 Pods of my-web-v2 are available") {
			t.Errorf("got %v", err)
		}
		if sizeOf(s.objects["my-web-v1"]) != 4 {
			t.Errorf("the old one has lost Pods: %d", sizeOf(s.objects["my-web-v1"]))
		}
	})
}

func TestRunRefuses(t *testing.T) {
	tests := map[string]struct {
		old, name, version string
		there              bool
		want               string
	}{
		"an old one that is not there": {old: "nobody", name: "my-web-v2", version: "v2", want: `replicationcontrollers "nobody" not found`},
		"the same name":                {old: "my-web-v1", name: "my-web-v1", version: "v2", want: "cannot have the same name"},
		"the same labels":              {old: "my-web-v1", name: "my-web-v2", version: "v1", want: "must specify a matching key with non-equal value in Selector for my-web-v1"},
		"a new one that is somebody's": {old: "my-web-v1", name: "my-web-v2", version: "v2", there: true, want: "is not part of an update of my-web-v1"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			next := manifest(t, tc.name, tc.version, "")
			if tc.there {
				s.objects[tc.name] = next.DeepCopy()
			}
			calls := len(s.calls)
			err := Run(t.Context(), Options{API: s, Old: tc.old, Manifest: next, Timeout: time.Minute, Out: &strings.Builder{}})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if len(s.calls) != calls {
				t.Errorf("something was written: %v", s.calls[calls:])
			}
		})
	}
}

func TestManifestRefuses(t *testing.T) {
	const good = "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: a}\n"
	tests := map[string]struct{ text, want string }{
		"nothing":      {"# only a comment\n", "empty"},
		"two objects":  {good + "---\n" + good, "several objects"},
		"another kind": {"apiVersion: apps/v1\nkind: Deployment\n", `apiVersion "apps/v1" and kind "Deployment"`},
		"no name":      {"apiVersion: v1\nkind: ReplicationController\n", "metadata.name is missing"},
		"no number":    {good + "spec: {replicas: many}\n", "spec.replicas in the manifest must be a number"},
		"no YAML":      {"\t{", "cannot be read"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Manifest(strings.NewReader(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
