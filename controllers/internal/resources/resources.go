// Package resources lists what kinds an API server serves, for the controllers
// that work on all of them. It only reads; it remembers nothing between calls.
package resources

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// Resource is one kind in the version that the server prefers.
type Resource struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
	verbs      []string
}

// New describes a resource; for tests and fixed lists.
func New(gvr schema.GroupVersionResource, kind string, namespaced bool, verbs ...string) Resource {
	return Resource{GroupVersionResource: gvr, Kind: kind, Namespaced: namespaced, verbs: verbs}
}

// GroupKind is the kind without its version.
func (r Resource) GroupKind() schema.GroupKind {
	return schema.GroupKind{Group: r.Group, Kind: r.Kind}
}

// Supports tells whether the server offers every verb.
func (r Resource) Supports(verbs ...string) bool {
	for _, verb := range verbs {
		if !slices.Contains(r.verbs, verb) {
			return false
		}
	}
	return true
}

// UnknownError names groups whose kinds could not be found out: an aggregated API that
// is down, for example. What was known of them before may still be true.
type UnknownError map[schema.GroupVersion]error

// Error names each group with its error, in order, so that equal failures read alike.
func (u UnknownError) Error() string {
	var parts []string
	for _, gv := range slices.SortedFunc(maps.Keys(u), func(a, b schema.GroupVersion) int { return strings.Compare(a.String(), b.String()) }) {
		parts = append(parts, fmt.Sprintf("%s: %v", gv, u[gv]))
	}
	return strings.Join(parts, ", ")
}

// HasGroup tells whether a version of the group is among the unknown.
func (u UnknownError) HasGroup(group string) bool {
	for gv := range u {
		if gv.Group == group {
			return true
		}
	}
	return false
}

// Discover returns the resources of the server in a fixed order, and the groups it
// could not ask. The error is for a server that could not be asked at all.
func Discover(ctx context.Context, server discovery.DiscoveryInterfaceWithContext) ([]Resource, UnknownError, error) {
	lists, err := discovery.ServerPreferredResourcesWithContext(ctx, server)
	var unknown UnknownError
	if failed, partial := discovery.GroupDiscoveryFailedErrorGroups(err); partial {
		unknown = failed
	} else if err != nil {
		return nil, nil, fmt.Errorf("discover the kinds of the API server: %w", err)
	}
	var found []Resource
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, nil, fmt.Errorf("parse group version %q: %w", list.GroupVersion, err)
		}
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") {
				continue // a subresource
			}
			found = append(found, fromDiscovery(gv, r))
		}
	}
	slices.SortFunc(found, func(a, b Resource) int { return strings.Compare(a.String(), b.String()) })
	return found, unknown, nil
}

func fromDiscovery(gv schema.GroupVersion, r metav1.APIResource) Resource {
	if r.Group != "" {
		gv.Group = r.Group
	}
	if r.Version != "" {
		gv.Version = r.Version
	}
	return New(gv.WithResource(r.Name), r.Kind, r.Namespaced, r.Verbs...)
}
