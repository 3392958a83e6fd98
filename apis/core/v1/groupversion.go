package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of the kinds in this package.
const GroupName = "core.keelson.dev"

// Category is the name under which `kubectl get` lists every Keelson kind.
const Category = "keelson"

var (
	// GroupVersion is the group and version of the kinds in this package.
	GroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1"}

	// SchemeBuilder collects what AddToScheme registers.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme registers the kinds of this package.
	AddToScheme = SchemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&Pod{}, &PodList{},
		&Node{}, &NodeList{},
		&ReplicationController{}, &ReplicationControllerList{},
		&Service{}, &ServiceList{},
		&Endpoints{}, &EndpointsList{},
		&PodTemplate{}, &PodTemplateList{},
		&LimitRange{}, &LimitRangeList{},
		&ResourceQuota{}, &ResourceQuotaList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
