package supervisor

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBackoff(t *testing.T) {
	tests := map[string]struct {
		ran  []time.Duration
		want []time.Duration
	}{
		"a single end is repaired at once": {
			ran:  []time.Duration{time.Hour},
			want: []time.Duration{200 * time.Millisecond},
		},
		"a crash loop waits twice as long each time, up to the limit": {
			ran: make([]time.Duration, 10),
			want: []time.Duration{
				200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond,
				3200 * time.Millisecond, 6400 * time.Millisecond, 12800 * time.Millisecond, 25600 * time.Millisecond,
				30 * time.Second, 30 * time.Second,
			},
		},
		"a steady run forgets the loop": {
			ran:  []time.Duration{0, 0, 0, steadyAfter, 0},
			want: []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var b backoff
			var got []time.Duration
			for _, ran := range tt.ran {
				b = b.next(ran)
				got = append(got, time.Duration(b))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("delays (-want +got):\n%s", diff)
			}
		})
	}
}
