// Package hooks runs what a container wants done just after it started and just before
// it is stopped.
//
// A hook is a command in the container, an HTTP request, or a pause. The package runs
// one hook once and says whether it worked; when to run it, how long it may take, and
// what a failure means is for package lifecycle to decide. It remembers nothing: a hook
// that was cut short by a crash of the agent is not continued.
package hooks

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/probes"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	userAgent = "kube-lifecycle/1.37"

	// maxAnswer is what is read of an answer, in bytes.
	maxAnswer = 10 << 10
)

// Target is the container that the hook belongs to.
type Target struct {
	// ID is the runtime's.
	ID        string
	Container *corev1.Container
	// Pod is how messages name the Pod.
	Pod string
	// PodIP is where HTTP hooks go that name no host.
	PodIP string
	// Fallback is told when a hook with HTTPS was answered in HTTP; nil tells nobody.
	Fallback func(message string)
}

// Runner runs hooks; use New.
type Runner struct {
	executor probes.Executor
	clock    clock.Clock
	client   *http.Client
}

// New returns a Runner.
func New(e probes.Executor, c clock.Clock) *Runner {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // upstream's rule: hooks do not verify
		DisableKeepAlives: true}
	return &Runner{executor: e, clock: c, client: &http.Client{Transport: transport, CheckRedirect: probes.SameHost}}
}

// Run runs one hook until it is over or ctx ends. Its error is in upstream's words.
func (r *Runner) Run(ctx context.Context, t Target, hook *corev1.LifecycleHandler) error {
	switch {
	case hook.Exec != nil:
		out := &probes.Output{}
		if err := r.executor.Exec(ctx, t.ID, hook.Exec.Command, runtime.Streams{Stdout: out, Stderr: out}); err != nil {
			return fmt.Errorf("Exec lifecycle hook (%v) for Container %q in Pod %q failed - error: %w, message: %q",
				hook.Exec.Command, t.Container.Name, t.Pod, err, out.String())
		}
	case hook.HTTPGet != nil:
		if err := r.get(ctx, t, hook.HTTPGet); err != nil {
			return fmt.Errorf("HTTP lifecycle hook (%s) for Container %q in Pod %q failed - error: %w",
				hook.HTTPGet.Path, t.Container.Name, t.Pod, err)
		}
	case hook.Sleep != nil:
		if err := r.sleep(ctx, time.Duration(hook.Sleep.Seconds)*time.Second); err != nil {
			return fmt.Errorf("Sleep lifecycle hook (%d) for Container %q in Pod %q failed - error: %w",
				hook.Sleep.Seconds, t.Container.Name, t.Pod, err)
		}
	default:
		return errors.New("Cannot run handler: invalid handler: give it exec, httpGet or sleep")
	}
	return nil
}

func (r *Runner) sleep(ctx context.Context, d time.Duration) error {
	timer := r.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return errors.New("container terminated before sleep hook finished")
	case <-timer.C():
		return nil
	}
}

// get asks; any answer will do. A server that speaks HTTP where HTTPS was written is
// asked again in its own way, without what could be a secret.
func (r *Runner) get(ctx context.Context, t Target, action *corev1.HTTPGetAction) error {
	host := t.PodIP
	if host == "" && action.Host == "" {
		return errors.New("failed to find networking container: the Pod has no address")
	}
	request, err := probes.NewRequest(ctx, action, t.Container, host, userAgent)
	if err != nil {
		return err
	}
	err = r.ask(request)
	if err == nil || !speaksPlainHTTP(err) {
		return err
	}
	again := request.Clone(ctx)
	again.URL.Scheme = "http"
	again.Header.Del("Authorization")
	if r.ask(again) != nil {
		return err
	}
	if t.Fallback != nil {
		t.Fallback(fmt.Sprintf("request to HTTPS lifecycle hook %s got HTTP response, retry with HTTP succeeded", request.URL.Host))
	}
	return nil
}

func (r *Runner) ask(request *http.Request) error {
	response, err := r.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer)) // the answer does not matter
	return nil
}

func speaksPlainHTTP(err error) bool {
	failed, ok := errors.AsType[*url.Error](err)
	return ok && strings.Contains(failed.Err.Error(), "server gave HTTP response to HTTPS client")
}
