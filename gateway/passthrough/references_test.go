package passthrough

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReferencesAreTranslatedBothWays: an API server stores what it is sent and answers
// with it.
func TestReferencesAreTranslatedBothWays(t *testing.T) {
	const events = "/api/v1/namespaces/n/events"
	for what, tc := range map[string]struct {
		method, path, contentType, sent, stored string
	}{
		"an Event about a Pod": {http.MethodPost, events, "application/json",
			`{"apiVersion":"v1","involvedObject":{"apiVersion":"v1","kind":"Pod","name":"p"},"kind":"Event","metadata":{"name":"e"}}`,
			`{"apiVersion":"v1","involvedObject":{"apiVersion":"core.keelson.dev/v1","kind":"Pod","name":"p"},"kind":"Event","metadata":{"name":"e"}}`},
		"an Event about a ConfigMap": {http.MethodPost, events, "application/json",
			`{"apiVersion":"v1","involvedObject":{"apiVersion":"v1","kind":"ConfigMap","name":"c"},"kind":"Event","metadata":{"name":"e"}}`,
			`{"apiVersion":"v1","involvedObject":{"apiVersion":"v1","kind":"ConfigMap","name":"c"},"kind":"Event","metadata":{"name":"e"}}`},
	} {
		t.Run(what, func(t *testing.T) {
			var stored string
			base := behind(t, func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				stored = string(body)
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(body)
			})
			answer := send(t, tc.method, relay(t, base)+tc.path, strings.NewReader(tc.sent), map[string]string{"Content-Type": tc.contentType})
			got, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.stored, stored); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.sent, strings.TrimSpace(string(got))); diff != "" {
				t.Errorf("answered (-want +got):\n%s", diff)
			}
		})
	}
}
