package discovery

import (
	"encoding/json"
	"fmt"
	"slices"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// addGroup adds the group to a list of groups: legacy or aggregated, whose versions v2
// and v2beta1 have the same JSON.
func (h *Handler) addGroup(document []byte) ([]byte, error) {
	var kind metav1.TypeMeta
	if err := json.Unmarshal(document, &kind); err != nil {
		return nil, err
	}
	switch kind.Kind {
	case "APIGroupList":
		var list metav1.APIGroupList
		if err := json.Unmarshal(document, &list); err != nil {
			return nil, err
		}
		list.Groups = slices.DeleteFunc(list.Groups, func(g metav1.APIGroup) bool { return g.Name == h.Added.Group.Name })
		added := *h.Added.Group
		added.TypeMeta = metav1.TypeMeta{}
		list.Groups = append(list.Groups, added)
		return json.Marshal(list)
	case "APIGroupDiscoveryList":
		var list apidiscoveryv2.APIGroupDiscoveryList
		if err := json.Unmarshal(document, &list); err != nil {
			return nil, err
		}
		list.Items = slices.DeleteFunc(list.Items, func(g apidiscoveryv2.APIGroupDiscovery) bool { return g.Name == h.Added.Group.Name })
		list.Items = append(list.Items, aggregated(h.Added))
		return json.Marshal(list)
	}
	return nil, fmt.Errorf("it is a %q and no list of groups", kind.Kind)
}

// aggregated is the group as aggregated discovery describes it.
func aggregated(g Group) apidiscoveryv2.APIGroupDiscovery {
	version := apidiscoveryv2.APIVersionDiscovery{
		Version:   g.Group.PreferredVersion.Version,
		Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
	}
	for _, resource := range g.Resources.APIResources {
		scope := apidiscoveryv2.ScopeCluster
		if resource.Namespaced {
			scope = apidiscoveryv2.ScopeNamespace
		}
		version.Resources = append(version.Resources, apidiscoveryv2.APIResourceDiscovery{
			Resource:         resource.Name,
			SingularResource: resource.SingularName,
			Scope:            scope,
			Verbs:            resource.Verbs,
			ShortNames:       resource.ShortNames,
			Categories:       resource.Categories,
			ResponseKind:     &metav1.GroupVersionKind{Group: g.Group.Name, Version: g.Group.PreferredVersion.Version, Kind: resource.Kind},
		})
	}
	return apidiscoveryv2.APIGroupDiscovery{
		ObjectMeta: metav1.ObjectMeta{Name: g.Group.Name},
		Versions:   []apidiscoveryv2.APIVersionDiscovery{version},
	}
}

// addToIndex adds the group's OpenAPI document to the index of documents.
func (h *Handler) addToIndex(document []byte) ([]byte, error) {
	var index struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(document, &index); err != nil {
		return nil, err
	}
	if index.Paths == nil {
		index.Paths = map[string]map[string]any{}
	}
	path := h.Added.versionPath()
	index.Paths[path[1:]] = map[string]any{"serverRelativeURL": openAPIIndex + path + "?hash=" + hashOf(h.openAPI)}
	return json.Marshal(index)
}
