package resources

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// server answers discovery from fixed lists; versions are in order of preference.
type server struct {
	discovery.DiscoveryInterfaceWithContext // nil: nothing else is asked
	groups                                  []metav1.APIGroup
	lists                                   map[string][]metav1.APIResource
	down                                    error
}

func (s *server) serve(group string, versions ...string) *server {
	g := metav1.APIGroup{Name: group}
	for _, version := range versions {
		gv := schema.GroupVersion{Group: group, Version: version}.String()
		g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv, Version: version})
	}
	g.PreferredVersion = g.Versions[0]
	s.groups = append(s.groups, g)
	return s
}

func (s *server) with(groupVersion string, resources ...metav1.APIResource) *server {
	if s.lists == nil {
		s.lists = map[string][]metav1.APIResource{}
	}
	s.lists[groupVersion] = resources
	return s
}

func (s *server) ServerGroupsWithContext(context.Context) (*metav1.APIGroupList, error) {
	return &metav1.APIGroupList{Groups: s.groups}, s.down
}

func (s *server) ServerResourcesForGroupVersionWithContext(_ context.Context, gv string) (*metav1.APIResourceList, error) {
	list, ok := s.lists[gv]
	if !ok {
		return nil, errors.New("no endpoints")
	}
	return &metav1.APIResourceList{GroupVersion: gv, APIResources: list}, nil
}

func kind(name, resource string, verbs ...string) metav1.APIResource {
	return metav1.APIResource{Name: resource, Kind: name, Namespaced: true, Verbs: verbs}
}

func TestDiscover(t *testing.T) {
	tests := map[string]struct {
		server      *server
		want        []string
		wantUnknown string
		wantErr     bool
	}{
		"kinds of several groups, in one order": {
			server: (&server{}).serve("", "v1").serve("core.keelson.dev", "v1").
				with("v1", kind("Secret", "secrets"), kind("Pod", "pods")).with("core.keelson.dev/v1", kind("Pod", "pods")),
			want: []string{"/v1, Resource=pods", "/v1, Resource=secrets", "core.keelson.dev/v1, Resource=pods"},
		},
		"the preferred version of a kind": {
			server: (&server{}).serve("g", "v2", "v1").
				with("g/v2", kind("New", "news")).with("g/v1", kind("New", "news"), kind("Old", "olds")),
			want: []string{"g/v1, Resource=olds", "g/v2, Resource=news"},
		},
		"subresources are no kinds": {
			server: (&server{}).serve("", "v1").with("v1", kind("Pod", "pods"), kind("Pod", "pods/status")),
			want:   []string{"/v1, Resource=pods"},
		},
		"a group that does not answer": {
			server:      (&server{}).serve("", "v1").serve("metrics", "v1").with("v1", kind("Pod", "pods")),
			want:        []string{"/v1, Resource=pods"},
			wantUnknown: "metrics/v1: no endpoints",
		},
		"a server that does not answer": {
			server: &server{down: errors.New("connection refused")}, wantErr: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			found, unknown, err := Discover(t.Context(), tc.server)
			if (err != nil) != tc.wantErr {
				t.Fatalf("Discover returned %v, want an error: %t", err, tc.wantErr)
			}
			var got []string
			for _, r := range found {
				got = append(got, r.GroupVersionResource.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("resources (-want +got):\n%s", diff)
			}
			said := ""
			if len(unknown) > 0 {
				said = unknown.Error()
			}
			if said != tc.wantUnknown {
				t.Errorf("unknown: %q, want %q", said, tc.wantUnknown)
			}
		})
	}
}

func TestUnknownGroups(t *testing.T) {
	unknown := UnknownError{
		{Group: "b", Version: "v1"}: errors.New("down"),
		{Group: "a", Version: "v2"}: errors.New("slow"),
	}
	if want := "a/v2: slow, b/v1: down"; unknown.Error() != want {
		t.Errorf("says %q, want %q", unknown.Error(), want)
	}
	if !unknown.HasGroup("a") || unknown.HasGroup("c") || unknown.HasGroup("") {
		t.Error("does not know its groups")
	}
}

func TestSupports(t *testing.T) {
	r := New(schema.GroupVersionResource{Version: "v1", Resource: "things"}, "Thing", true, "get", "list")
	if !r.Supports("list") || !r.Supports("get", "list") || r.Supports("get", "delete") {
		t.Errorf("supports %v", r.verbs)
	}
}
