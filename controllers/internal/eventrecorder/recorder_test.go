package eventrecorder

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
)

// provider is a manager's, with the same broadcaster.
type provider struct{ record.EventBroadcaster }

func (p provider) GetEventRecorderFor(name string) record.EventRecorder {
	return p.NewRecorder(clientgoscheme.Scheme, corev1.EventSource{Component: name})
}

// sink is the API server: it says what is written.
type sink chan string

func (s sink) Create(e *corev1.Event) (*corev1.Event, error) {
	s <- fmt.Sprintf("create %s %s %s: %s", e.Source.Component, e.Type, e.Reason, e.Message)
	return e, nil
}

func (s sink) Update(*corev1.Event) (*corev1.Event, error) { panic("the recorder patches") }

func (s sink) Patch(e *corev1.Event, _ []byte) (*corev1.Event, error) {
	s <- fmt.Sprintf("count %d: %s", e.Count, e.Message)
	return e, nil
}

// The owner is another version at each attempt, as one whose status changes between them.
func TestWhatRepeatsIsCounted(t *testing.T) {
	for name, tc := range map[string]struct {
		attempts int
		note     func(attempt int) string
		want     []string
	}{
		"the same text is one event with a count": {
			attempts: 3,
			note:     func(int) string { return "quota" },
			want:     []string{"create maker Warning FailedCreate: quota", "count 2: quota", "count 3: quota"},
		},
		"texts that differ are events of their own, and combined from the tenth": {
			attempts: 12,
			note:     func(attempt int) string { return "pod-" + strconv.Itoa(attempt) },
			want: []string{
				"create maker Warning FailedCreate: pod-1", "create maker Warning FailedCreate: pod-2", "create maker Warning FailedCreate: pod-3",
				"create maker Warning FailedCreate: pod-4", "create maker Warning FailedCreate: pod-5", "create maker Warning FailedCreate: pod-6",
				"create maker Warning FailedCreate: pod-7", "create maker Warning FailedCreate: pod-8", "create maker Warning FailedCreate: pod-9",
				"create maker Warning FailedCreate: (combined from similar events): pod-10",
				"count 2: (combined from similar events): pod-11", "count 3: (combined from similar events): pod-12",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			broadcaster := record.NewBroadcaster(record.WithContext(t.Context()))
			defer broadcaster.Shutdown()
			written := make(sink, tc.attempts)
			broadcaster.StartRecordingToSink(written)
			recorder := New(provider{broadcaster}, "maker")
			var got []string
			for attempt := 1; attempt <= tc.attempts; attempt++ {
				owner := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{
					Namespace: "ns", Name: "web", UID: types.UID("1"), ResourceVersion: strconv.Itoa(attempt),
				}}
				recorder.Eventf(owner, &corev1.Pod{}, corev1.EventTypeWarning, "FailedCreate", "CreatePod", "%s", tc.note(attempt))
				got = append(got, <-written)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
		})
	}
}
