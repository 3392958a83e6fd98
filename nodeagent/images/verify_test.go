package images

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// private is an image service whose registry gives its images to those who know user "u".
type private struct {
	mu     sync.Mutex
	local  map[string]runtime.Image
	asked  int
	public bool
}

func (p *private) Image(_ context.Context, ref string) (*runtime.Image, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if image, ok := p.local[ref]; ok {
		return &image, nil
	}
	return nil, nil
}

func (p *private) Pull(_ context.Context, ref string, as *runtime.Credential) (runtime.Image, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if !p.public && (as == nil || as.Username != "u") {
		return runtime.Image{}, errors.New("401 unauthorized")
	}
	p.local[ref] = runtime.Image{Ref: ref, ID: "sha256:1"}
	return p.local[ref], nil
}

// as asks for an image with a credential, nil for none, and returns why it waits.
func as(t *testing.T, m *Manager, policy corev1.PullPolicy, c *runtime.Credential) string {
	t.Helper()
	_, err := m.Ensure(t.Context(), Request{Pod: "uid", Image: byTag, Policy: policy, Credentials: func(string) []runtime.Credential {
		if c == nil {
			return nil
		}
		return []runtime.Credential{*c}
	}}, func(Event) {})
	m.Forget("uid") // no back-off between steps
	if waiting, ok := errors.AsType[*Error](err); ok {
		return waiting.Reason
	}
	return ""
}

func TestWhoMayUseAnImageThatIsHere(t *testing.T) {
	const never, ifNotPresent, always = corev1.PullNever, corev1.PullIfNotPresent, corev1.PullAlways
	type step struct {
		policy    corev1.PullPolicy
		as        *runtime.Credential
		want      string
		wantAsked int // how often the registry has been asked by then
	}
	tests := map[string]struct {
		verification Verification
		preloaded    []string
		here, public bool
		restart      bool
		steps        []step
	}{
		"another Pod's password opens nothing": {steps: []step{
			{ifNotPresent, of("a", "u"), "", 1}, {ifNotPresent, nil, ReasonErrImagePull, 2}, {ifNotPresent, of("b", "v"), ReasonErrImagePull, 3}, {never, nil, ReasonErrNeverPull, 3},
		}},
		"the same Secret, or its password, does": {steps: []step{
			{ifNotPresent, of("a", "u"), "", 1}, {ifNotPresent, of("a", "u"), "", 1}, {ifNotPresent, of("b", "u"), "", 1}, {never, of("a", "u"), "", 1},
		}},
		"also after a restart": {restart: true, steps: []step{
			{ifNotPresent, of("a", "u"), "", 1}, {ifNotPresent, nil, ReasonErrImagePull, 2}, {ifNotPresent, of("a", "u"), "", 2},
		}},
		"a public image is for everybody": {public: true, steps: []step{
			{ifNotPresent, nil, "", 1}, {ifNotPresent, nil, "", 1}, {never, nil, "", 1},
		}},
		"one that was here before is for everybody": {here: true, steps: []step{{ifNotPresent, nil, "", 0}, {never, nil, "", 0}}},
		"unless the node verifies all":              {here: true, verification: AlwaysVerify, steps: []step{{ifNotPresent, nil, ReasonErrImagePull, 1}, {ifNotPresent, of("a", "u"), "", 2}}},
		"or all but some, and this is none":         {here: true, verification: NeverVerifyAllowlistedImages, preloaded: []string{"reg.example/other"}, steps: []step{{never, nil, ReasonErrNeverPull, 0}}},
		"or all but some, and this is one":          {here: true, verification: NeverVerifyAllowlistedImages, preloaded: []string{"reg.example/*"}, steps: []step{{never, nil, "", 0}}},
		"a node that verifies none":                 {verification: NeverVerify, steps: []step{{ifNotPresent, of("a", "u"), "", 1}, {ifNotPresent, nil, "", 1}}},
		"Always asks the registry":                  {steps: []step{{always, of("a", "u"), "", 1}, {always, of("a", "u"), "", 2}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			service := &private{local: map[string]runtime.Image{}, public: tt.public}
			if tt.here {
				service.local[byTag] = runtime.Image{Ref: byTag, ID: "sha256:1"}
			}
			boot := func() *Manager {
				m := NewManager(service, clock.RealClock{})
				m.Options = Options{Records: openRecords(t, dir), Verification: NeverVerifyPreloadedImages, Preloaded: tt.preloaded}
				if tt.verification != "" {
					m.Verification = tt.verification
				}
				return m
			}
			m := boot()
			for i, s := range tt.steps {
				if got := as(t, m, s.policy, s.as); got != s.want || service.asked != s.wantAsked {
					t.Errorf("step %d: waits for %q, registry asked %d times; want %q, %d", i+1, got, service.asked, s.want, s.wantAsked)
				}
				if tt.restart {
					m = boot()
				}
			}
		})
	}
}

func TestVerificationValidate(t *testing.T) {
	tests := map[string]struct {
		v       Verification
		allowed []string
		want    string
	}{
		"the default":             {NeverVerifyPreloadedImages, nil, ""},
		"a list":                  {NeverVerifyAllowlistedImages, []string{"reg.example/team/app", "reg.example/team/*", "reg.example/*", "localhost:5000/app"}, ""},
		"no value":                {"", nil, `"" is none of [NeverVerify NeverVerifyPreloadedImages NeverVerifyAllowlistedImages AlwaysVerify]`},
		"a list with another one": {AlwaysVerify, []string{"reg.example/a"}, "a list of images goes with NeverVerifyAllowlistedImages only"},
		"a tag":                   {NeverVerifyAllowlistedImages, []string{"reg.example/a:1"}, `image pattern "reg.example/a:1": must be a repository with its registry, such as registry.example/team/app, and may end in /*`},
		"a star in the middle":    {NeverVerifyAllowlistedImages, []string{"reg.example/*/a"}, `image pattern "reg.example/*/a": must be a repository with its registry, such as registry.example/team/app, and may end in /*`},
		"a short name":            {NeverVerifyAllowlistedImages, []string{"busybox"}, `image pattern "busybox": must be a repository with its registry, such as registry.example/team/app, and may end in /*`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := tt.v.Validate(tt.allowed); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	pullAll := func(t *testing.T, l Limits) time.Duration {
		t.Helper()
		m := NewManager(&store{}, clock.RealClock{})
		m.Limits = l
		started := time.Now()
		var all sync.WaitGroup
		for _, image := range []string{"a:1", "b:1", "c:1", "d:1"} {
			all.Go(func() {
				if _, err := ask(m, image, corev1.PullAlways); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		return time.Since(started)
	}
	tests := map[string]struct {
		limits func() Limits
		want   time.Duration // a pull takes a second
	}{
		"none":                   {func() Limits { return Limits{} }, time.Second},
		"one after the other":    {func() Limits { return NewLimits(1, 0, 0) }, 4 * time.Second},
		"two at once":            {func() Limits { return NewLimits(2, 0, 0) }, 2 * time.Second},
		"two begin each second":  {func() Limits { return NewLimits(0, 2, 1) }, 2500 * time.Millisecond},
		"a burst, and then slow": {func() Limits { return NewLimits(0, 1, 3) }, 2 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := pullAll(t, tt.limits()); got.Round(10*time.Millisecond) != tt.want {
					t.Errorf("took %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestWhoeverNoLongerWantsAnImageWaitsForNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(&store{}, clock.RealClock{})
		m.Limits = NewLimits(1, 0, 0)
		leave, err := m.Limits.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := m.Ensure(ctx, Request{Pod: "uid", Image: byTag}, func(Event) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		leave()
		if _, err := ask(m, byTag, corev1.PullAlways); err != nil {
			t.Errorf("the slot is not free: %v", err)
		}
	})
}
