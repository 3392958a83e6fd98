package env

import (
	"context"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	ctrl "sigs.k8s.io/controller-runtime"
)

const (
	// Settled is how long a test waits for something that takes milliseconds on an
	// idle machine.
	Settled = 60 * time.Second
	// PollInterval is how often Eventually looks.
	PollInterval = 20 * time.Millisecond

	reconciliationTimeout = 30 * time.Second
)

// ManagerOption changes the options of a manager before it is made.
type ManagerOption func(*ctrl.Options)

// NewManager returns a manager set up as the real one (read-your-writes client,
// reconciliation timeout), without leader election, metrics and probes.
func (e *Environment) NewManager(t testing.TB, options ...ManagerOption) ctrl.Manager {
	t.Helper()
	opts := ctrl.Options{
		Scheme:  e.Scheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		Client:  client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(true)}},
		Controller: config.Controller{
			ReconciliationTimeout: reconciliationTimeout,
			// Several managers live in one test process.
			SkipNameValidation: new(true),
		},
	}
	for _, option := range options {
		option(&opts)
	}
	mgr, err := ctrl.NewManager(e.Config, opts)
	if err != nil {
		t.Fatalf("failed to create a manager: %v", err)
	}
	return mgr
}

// StartManager makes a manager, lets add register controllers, and runs it until the
// test ends (or the returned function is called).
func (e *Environment) StartManager(t testing.TB, add func(ctrl.Manager) error, options ...ManagerOption) (stop func()) {
	t.Helper()
	mgr := e.NewManager(t, options...)
	if err := add(mgr); err != nil {
		t.Fatalf("failed to add the controllers: %v", err)
	}
	return RunManager(t, mgr)
}

// RunManager runs mgr until the test ends or stop is called, and waits for its caches.
func RunManager(t testing.TB, mgr ctrl.Manager) (stop func()) {
	t.Helper()
	// Not t.Context(): it ends before the cleanup functions run.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			t.Errorf("manager ended with an error: %v", err)
		}
	}
	t.Cleanup(stop)
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the manager's caches did not sync")
	}
	return stop
}

// Eventually calls check until it returns "", and fails the test with its last
// complaint when that takes longer than Settled.
func Eventually(t testing.TB, check func() (complaint string)) {
	t.Helper()
	deadline := time.Now().Add(Settled)
	for {
		complaint := check()
		if complaint == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after %s: %s", Settled, complaint)
		}
		time.Sleep(PollInterval)
	}
}

// Always calls check for the given time and fails at its first complaint: for what
// must not happen.
func Always(t testing.TB, duration time.Duration, check func() (complaint string)) {
	t.Helper()
	for deadline := time.Now().Add(duration); time.Now().Before(deadline); time.Sleep(PollInterval) {
		if complaint := check(); complaint != "" {
			t.Fatal(complaint)
		}
	}
}
