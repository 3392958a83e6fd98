package agent

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestHandlersOfTheNode(t *testing.T) {
	boom := errors.New("no user namespaces here")
	tests := map[string]struct {
		// answers are what the runtime said, one after the other; mapsUsers what the kernel says.
		answers   []error
		mapsUsers error
		wantUsers *bool
		wantAsked int
	}{
		"not known before the runtime answers":    {answers: []error{boom}},
		"a kernel that maps user IDs":             {answers: []error{nil}, wantUsers: new(true), wantAsked: 1},
		"a kernel that does not":                  {answers: []error{nil}, mapsUsers: boom, wantUsers: new(false), wantAsked: 1},
		"the kernel is asked once":                {answers: []error{boom, nil, nil}, wantUsers: new(true), wantAsked: 1},
		"a runtime that went away is still known": {answers: []error{nil, boom}, wantUsers: new(true), wantAsked: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			asked := 0
			mapsUsers := func() error {
				asked++
				return tt.mapsUsers
			}
			a := newAgent(NewOptions(), settings{name: "n"}, dependencies{api: &api{}, clock: clock.RealClock{}, mapsUsers: mapsUsers})
			for _, err := range tt.answers {
				a.runtimeAnswered(context.Background(), runtime.Info{Name: "containerd", Version: "2"}, err)
			}
			if asked != tt.wantAsked {
				t.Errorf("the kernel was asked %d times, want %d", asked, tt.wantAsked)
			}
			facts := a.facts()
			if tt.wantUsers == nil {
				if facts.Handlers != nil || facts.Features != nil {
					t.Errorf("handlers %+v, features %+v, want none", facts.Handlers, facts.Features)
				}
				return
			}
			// The kernels that Keelson runs on have mount_setattr.
			features := &corev1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: new(true), UserNamespaces: tt.wantUsers}
			want := []corev1.NodeRuntimeHandler{{Name: "", Features: features}, {Name: "runc", Features: features}}
			if diff := cmp.Diff(want, facts.Handlers); diff != "" {
				t.Errorf("handlers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(&corev1.NodeFeatures{SupplementalGroupsPolicy: new(true)}, facts.Features); diff != "" {
				t.Errorf("features (-want +got):\n%s", diff)
			}
		})
	}
}
