package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// How long a condition may take: generous, since no figure here is a measurement.
const (
	soon     = 30 * time.Second // one reaction of one part
	eventual = 2 * time.Minute  // many Pods, a restart, a back-off
)

// pollInterval is how often a condition is looked at again.
const pollInterval = 100 * time.Millisecond

// space is a namespace of one test's own and a kubectl that works in it.
type space struct {
	t    *testing.T
	Name string
	// plain: kubectl sees the plain Kubernetes API, through the gateway.
	plain bool
}

// newPlainSpace is newSpace in the plain Kubernetes view.
func newPlainSpace(t *testing.T) *space {
	t.Helper()
	s := newSpace(t)
	s.plain = true
	return s
}

// of is the same namespace for a test's part.
func (s *space) of(t *testing.T) *space {
	return &space{t: t, Name: s.Name, plain: s.plain}
}

// newSpace makes a namespace that ends with the test.
func newSpace(t *testing.T) *space {
	t.Helper()
	name := "e2e-" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	s := &space{t: t, Name: name[:min(len(name), 63)]}
	if out, err := kubectl(t.Context(), "", "create", "namespace", s.Name); err != nil {
		t.Fatalf("create namespace: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.explain()
		}
		ctx, cancel := context.WithTimeout(context.Background(), eventual)
		defer cancel()
		if out, err := kubectl(ctx, "", "delete", "namespace", s.Name); err != nil {
			t.Errorf("delete namespace: %v\n%s", err, out)
		}
	})
	return s
}

// kubectl runs stock kubectl as the cluster's administrator.
func kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	return output(command(ctx, cluster.Kubeconfig(), args...), stdin)
}

// command is stock kubectl with the credentials of a file.
func command(ctx context.Context, kubeconfig string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, cluster.KubectlPath, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	return cmd
}

func output(cmd *exec.Cmd, stdin string) (string, error) {
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// command is kubectl in the namespace, for who wants its streams.
func (s *space) command(args ...string) *exec.Cmd {
	return command(s.t.Context(), s.kubeconfig(), append([]string{"-n", s.Name}, args...)...)
}

func (s *space) kubeconfig() string {
	if s.plain {
		return cluster.PlainKubeconfig()
	}
	return cluster.Kubeconfig()
}

// try runs kubectl in the namespace and returns what it printed, error or not.
func (s *space) try(args ...string) (string, error) {
	return output(s.command(args...), "")
}

// run runs kubectl in the namespace; a failure ends the test.
func (s *space) run(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// apply applies manifests; a failure ends the test.
func (s *space) apply(manifest string) string {
	s.t.Helper()
	out, err := s.tryApply(manifest)
	if err != nil {
		s.t.Fatalf("kubectl apply: %v\n%s\n%s", err, out, manifest)
	}
	return out
}

// tryApply applies manifests and returns what kubectl printed.
func (s *space) tryApply(manifest string) (string, error) {
	return output(s.command("apply", "-f", "-"), manifest)
}

// get decodes one object.
func (s *space) get(into any, kind, name string) error {
	out, err := s.try("get", kind, name, "-o", "json")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return json.Unmarshal([]byte(out), into)
}

// eventually repeats check until it returns nil; at the end of the time its last
// error ends the test.
func (s *space) eventually(within time.Duration, what string, check func() error) {
	s.t.Helper()
	eventually(s.t, within, what, check)
}

func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || t.Context().Err() != nil {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(pollInterval)
	}
}

// consistently fails as soon as check does within the time.
func (s *space) consistently(during time.Duration, what string, check func() error) {
	s.t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(pollInterval) {
		if err := check(); err != nil {
			s.t.Fatalf("%s: %v", what, err)
		}
	}
}

// explain logs what a person would look at when the test has failed.
func (s *space) explain() {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	for _, args := range [][]string{
		{"get", "keelson", "-n", s.Name, "-o", "wide"},
		{"get", "events", "-n", s.Name},
		{"get", "kpo", "-n", s.Name, "-o", "yaml"},
	} {
		out, err := kubectl(ctx, "", args...)
		s.t.Logf("kubectl %s (%v):\n%s", strings.Join(args, " "), err, out)
	}
}

// cleanup runs kubectl when the test's own context has ended.
func (s *space) cleanup(args ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if out, err := output(command(ctx, s.kubeconfig(), append([]string{"-n", s.Name}, args...)...), ""); err != nil {
		s.t.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
