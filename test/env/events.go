package env

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Events returns the Events of a namespace, the first written first.
func (e *Environment) Events(t testing.TB, namespace string) []eventsv1.Event {
	t.Helper()
	var list eventsv1.EventList
	if err := e.Client.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
		t.Fatalf("failed to list events: %v", err)
	}
	// The name of an Event ends in the nanosecond of its first time.
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return strings.Compare(suffix(a.Name), suffix(b.Name)) })
	return list.Items
}

func suffix(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// EventuallyEvent waits for an event of this reason whose note contains text.
func (e *Environment) EventuallyEvent(t testing.TB, namespace, reason, text string) {
	t.Helper()
	Eventually(t, func() string {
		var seen []string
		for _, event := range e.Events(t, namespace) {
			if event.Reason == reason && strings.Contains(event.Note, text) {
				return ""
			}
			seen = append(seen, event.Reason+": "+event.Note)
		}
		return fmt.Sprintf("no event %s with %q: %q", reason, text, seen)
	})
}
