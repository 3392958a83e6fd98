package announce

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
	clocktesting "k8s.io/utils/clock/testing"
)

// journal is a Lease and a machine that write down what is done to them.
type journal struct {
	resourcelock.Interface
	lines []string
	fails error
	// takes is how long a write takes.
	takes time.Duration
	clock *clocktesting.FakeClock
}

func (j *journal) add(line string) { j.lines = append(j.lines, line) }

func (j *journal) Identity() string { return "a" }

func (j *journal) Create(context.Context, resourcelock.LeaderElectionRecord) error {
	return j.write("create")
}

func (j *journal) Update(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	return j.write("update " + r.HolderIdentity)
}

func (j *journal) write(line string) error {
	j.add(line)
	j.clock.Step(j.takes)
	return j.fails
}

func (j *journal) Hold(_ netip.Addr, lifetime time.Duration) error {
	if lifetime < time.Second {
		return errors.New("its time is over")
	}
	j.add("hold for " + lifetime.String())
	return nil
}

func (j *journal) Drop(netip.Addr) error { j.add("drop"); return nil }
func (j *journal) Tell(netip.Addr) error { j.add("tell"); return nil }

func TestAddressFollowsItsLease(t *testing.T) {
	held, released := resourcelock.LeaderElectionRecord{HolderIdentity: "a"}, resourcelock.LeaderElectionRecord{}
	tests := map[string]struct {
		takes     time.Duration
		fails     error
		do        func(context.Context, *holdingLock) error
		want      []string
		wantError bool
	}{
		"a new Lease takes the address": {
			do:   func(ctx context.Context, l *holdingLock) error { return l.Create(ctx, held) },
			want: []string{"create", "hold for 4s", "tell"},
		},
		"a slow renewal counts from when it was asked for": {
			takes: 2 * time.Second,
			do:    func(ctx context.Context, l *holdingLock) error { return l.Update(ctx, held) },
			want:  []string{"update a", "hold for 2s", "tell"},
		},
		"one that is too slow is none": {
			takes: 4 * time.Second, wantError: true,
			do:   func(ctx context.Context, l *holdingLock) error { return l.Update(ctx, held) },
			want: []string{"update a"},
		},
		"one that fails prolongs nothing": {
			fails: errors.New("no answer"), wantError: true,
			do:   func(ctx context.Context, l *holdingLock) error { return l.Update(ctx, held) },
			want: []string{"update a"},
		},
		"the address goes before the Lease is given back": {
			do:   func(ctx context.Context, l *holdingLock) error { return l.Update(ctx, released) },
			want: []string{"drop", "update "},
		},
		"neighbours are told three times, and again after the next take-over": {
			do: func(ctx context.Context, l *holdingLock) error {
				var errs []error
				for range 4 {
					errs = append(errs, l.Update(ctx, held))
				}
				return errors.Join(append(errs, l.Update(ctx, released), l.Update(ctx, held))...)
			},
			want: []string{
				"update a", "hold for 4s", "tell", "update a", "hold for 4s", "tell", "update a", "hold for 4s", "tell",
				"update a", "hold for 4s", "drop", "update ", "update a", "hold for 4s", "tell",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			clock := clocktesting.NewFakeClock(time.Unix(1000, 0))
			j := &journal{takes: tt.takes, fails: tt.fails, clock: clock}
			l := &holdingLock{Interface: j, addr: netip.MustParseAddr("192.0.2.10"), machine: j, clock: clock}
			if err := tt.do(t.Context(), l); (err != nil) != tt.wantError {
				t.Errorf("error %v, wanted one: %t", err, tt.wantError)
			}
			if !slices.Equal(j.lines, tt.want) {
				t.Errorf("did %q, want %q", j.lines, tt.want)
			}
		})
	}
}
