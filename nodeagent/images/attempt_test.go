package images

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// guarded is an image service whose registry knows one user.
type guarded struct {
	store
	user  string
	asked []string
}

func (g *guarded) Pull(_ context.Context, ref string, as *runtime.Credential) (runtime.Image, error) {
	if as == nil {
		g.asked = append(g.asked, "nobody")
		return runtime.Image{}, errors.New("401")
	}
	g.asked = append(g.asked, as.Username)
	if as.Username != g.user {
		return runtime.Image{}, errors.New("not " + as.Username)
	}
	return runtime.Image{Ref: ref}, nil
}

func TestCredentialsAreTriedInOrder(t *testing.T) {
	tests := map[string]struct {
		users     []string
		wantAsked []string
		wantErr   string
	}{
		"the second works":       {[]string{"old", "app", "spare"}, []string{"old", "app"}, ""},
		"none works":             {[]string{"old", "older"}, []string{"old", "older"}, "not old\nnot older"},
		"without any, as nobody": {nil, []string{"nobody"}, "401"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := &guarded{user: "app"}
				var repository string
				request := Request{Pod: "pod", Image: "reg.example/team/app:1", Credentials: func(r string) []runtime.Credential {
					repository = r
					var all []runtime.Credential
					for _, user := range tt.users {
						all = append(all, runtime.Credential{Username: user})
					}
					return all
				}}
				_, err := NewManager(service, clock.RealClock{}).Ensure(t.Context(), request, func(Event) {})
				message := ""
				if waiting, ok := errors.AsType[*Error](err); ok {
					message = waiting.Message
				}
				if message != tt.wantErr {
					t.Errorf("error %q, want %q", message, tt.wantErr)
				}
				if diff := cmp.Diff(tt.wantAsked, service.asked); diff != "" {
					t.Errorf("asked as (-want +got):\n%s", diff)
				}
				if repository != "reg.example/team/app" {
					t.Errorf("credentials were looked up for %q", repository)
				}
			})
		})
	}
}

func TestOtherCredentialsAreAnotherPull(t *testing.T) {
	a, b := runtime.Credential{Username: "a", Password: "bc"}, runtime.Credential{Username: "ab", Password: "c"}
	keys := map[string]bool{}
	for _, credentials := range [][]runtime.Credential{nil, {a}, {b}, {a, b}, {b, a}} {
		keys[flightKey("image", credentials)] = true
	}
	if len(keys) != 5 {
		t.Errorf("5 lists of credentials share %d keys", len(keys))
	}
}
