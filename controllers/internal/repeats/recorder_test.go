package repeats

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	testingclock "k8s.io/utils/clock/testing"
)

// say is one event, after some time.
type say struct {
	after                time.Duration
	uid, kind, reason, n string
}

func TestWarningsAreNotRepeated(t *testing.T) {
	const w, n = corev1.EventTypeWarning, corev1.EventTypeNormal
	for name, tc := range map[string]struct {
		say  []say
		want []string
	}{
		"the same again":             {[]say{{0, "a", w, "Failed", "x"}, {time.Minute, "a", w, "Failed", "x"}}, []string{"Warning Failed x"}},
		"the same after the period":  {[]say{{0, "a", w, "Failed", "x"}, {Period, "a", w, "Failed", "x"}}, []string{"Warning Failed x", "Warning Failed x"}},
		"another text, and back":     {[]say{{0, "a", w, "Failed", "x"}, {0, "a", w, "Failed", "y"}, {0, "a", w, "Failed", "x"}}, []string{"Warning Failed x", "Warning Failed y", "Warning Failed x"}},
		"another reason":             {[]say{{0, "a", w, "Failed", "x"}, {0, "a", w, "Lost", "x"}}, []string{"Warning Failed x", "Warning Lost x"}},
		"about another object":       {[]say{{0, "a", w, "Failed", "x"}, {0, "b", w, "Failed", "x"}}, []string{"Warning Failed x", "Warning Failed x"}},
		"what is no warning repeats": {[]say{{0, "a", n, "Scaled", "x"}, {0, "a", n, "Scaled", "x"}}, []string{"Normal Scaled x", "Normal Scaled x"}},
	} {
		t.Run(name, func(t *testing.T) {
			inner := events.NewFakeRecorder(10)
			clock := testingclock.NewFakePassiveClock(time.Unix(0, 0))
			r := Spare(inner, clock)
			for _, s := range tc.say {
				clock.SetTime(clock.Now().Add(s.after))
				r.Eventf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(s.uid)}}, nil, s.kind, s.reason, "Try", "%s", s.n)
			}
			close(inner.Events)
			var got []string
			for event := range inner.Events {
				got = append(got, event)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheMemoryIsBounded(t *testing.T) {
	r := Spare(events.NewFakeRecorder(0), testingclock.NewFakePassiveClock(time.Unix(0, 0)))
	for i := range 2 * kept {
		r.isNew(subject{types.UID(rune(i)), "Failed"}, "x")
	}
	if len(r.given) > kept {
		t.Errorf("remembers %d, want at most %d", len(r.given), kept)
	}
}
