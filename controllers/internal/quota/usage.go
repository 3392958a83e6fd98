// Package quota says what objects take of ResourceQuotas, and whether one more object
// fits. It is pure: the webhook that admits (controllers/admission) and the controller
// that counts (controllers/resourcequota) read and write around it.
//
// Behaviour and words are those of upstream's pkg/quota/v1 and of its admission plugin.
// Names of resources are upstream's: quotas say "pods" and "count/deployments.apps",
// whatever group the objects are stored in.
package quota

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiquota "k8s.io/apiserver/pkg/quota/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Object is one object as quotas see it: one of Pod, Service and Claim is set, or none
// where only the number counts.
type Object struct {
	// Resource is the upstream name of the kind.
	Resource schema.GroupResource
	Pod      *keelsonv1.Pod
	Service  *keelsonv1.Service
	Claim    *corev1.PersistentVolumeClaim
	// Meta is the object's metadata.
	Meta metav1.Object
}

// The kinds that take more than their number.
var (
	Pods     = schema.GroupResource{Resource: "pods"}
	Services = schema.GroupResource{Resource: "services"}
	Claims   = schema.GroupResource{Resource: "persistentvolumeclaims"}
)

// CountPrefix starts the name of a number of objects of any kind.
const CountPrefix = "count/"

// CountName is the quota's name for the number of objects of a kind.
func CountName(kind schema.GroupResource) corev1.ResourceName {
	return corev1.ResourceName(CountPrefix + kind.String())
}

// numbered are the kinds whose number has a name of its own, too.
var numbered = []string{"services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims"}

// Usage is what the object takes.
func (o Object) Usage(now time.Time) corev1.ResourceList {
	used := corev1.ResourceList{CountName(o.Resource): one()}
	if o.Resource.Group == "" && slices.Contains(numbered, o.Resource.Resource) {
		used[corev1.ResourceName(o.Resource.Resource)] = one()
	}
	switch {
	case o.Pod != nil:
		addPod(used, o.Pod, now)
	case o.Service != nil:
		addService(used, o.Service)
	case o.Claim != nil:
		addClaim(used, o.Claim)
	}
	return used
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

// Ends is when a Pod that is being deleted stops to count although it is still there:
// its node may be lost, and its owner wants another one.
func Ends(pod *keelsonv1.Pod) (at time.Time, ok bool) {
	if pod.DeletionTimestamp == nil {
		return time.Time{}, false
	}
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
		grace = *own
	}
	shorter, err := strconv.ParseInt(pod.Annotations[keelsonv1.DeletionGracePeriodAnnotation], 10, 64)
	if err == nil && shorter >= 0 && shorter < grace {
		grace = shorter
	}
	return pod.DeletionTimestamp.Add(time.Duration(grace) * time.Second), true
}

// counts says whether a Pod takes more than its number.
func counts(pod *keelsonv1.Pod, now time.Time) bool {
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return false
	}
	end, ending := Ends(pod)
	return !ending || !now.After(end)
}

func addPod(used corev1.ResourceList, pod *keelsonv1.Pod, now time.Time) {
	if !counts(pod, now) {
		return
	}
	used[corev1.ResourcePods] = one()
	upstream, options := pod.Upstream(), resourcehelper.PodResourcesOptions{UseStatusResources: true}
	addCompute(used, resourcehelper.PodRequests(upstream, options), resourcehelper.PodLimits(upstream, options))
}

// addCompute names requests and limits as quotas do.
func addCompute(used, requests, limits corev1.ResourceList) {
	for name, amount := range requests {
		switch {
		case name == corev1.ResourceCPU, name == corev1.ResourceMemory, name == corev1.ResourceEphemeralStorage,
			strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			used[name] = amount
			used[requestsOf(name)] = amount
		case extended(name):
			used[requestsOf(name)] = amount
		}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if amount, ok := limits[name]; ok {
			used["limits."+name] = amount
		}
	}
}

func requestsOf(name corev1.ResourceName) corev1.ResourceName {
	return corev1.DefaultResourceRequestsPrefix + name
}

// extended says whether the name is that of a device and the like: it has a domain that
// is not upstream's.
func extended(name corev1.ResourceName) bool {
	domain, _, has := strings.Cut(string(name), "/")
	return has && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io")
}

func addService(used corev1.ResourceList, service *keelsonv1.Service) {
	ports := int64(len(service.Spec.Ports))
	var nodePorts, balancers int64
	switch service.Spec.Type {
	case corev1.ServiceTypeNodePort:
		nodePorts = ports
	case corev1.ServiceTypeLoadBalancer:
		balancers = 1
		if service.Spec.AllocateLoadBalancerNodePorts == nil || *service.Spec.AllocateLoadBalancerNodePorts {
			nodePorts = ports
			break
		}
		for _, port := range service.Spec.Ports {
			if port.NodePort != 0 {
				nodePorts++
			}
		}
	}
	used[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(nodePorts, resource.DecimalSI)
	used[corev1.ResourceServicesLoadBalancers] = *resource.NewQuantity(balancers, resource.DecimalSI)
}

// storageClassSuffix joins a class and what is counted of it.
const storageClassSuffix = ".storageclass.storage.k8s.io/"

func addClaim(used corev1.ResourceList, claim *corev1.PersistentVolumeClaim) {
	class := ""
	if claim.Spec.StorageClassName != nil {
		class = *claim.Spec.StorageClassName
	}
	if class != "" {
		used[corev1.ResourceName(class+storageClassSuffix)+corev1.ResourcePersistentVolumeClaims] = one()
	}
	storage, ok := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if !ok {
		return
	}
	if held, has := claim.Status.AllocatedResources[corev1.ResourceStorage]; has && held.Cmp(storage) > 0 {
		storage = held
	}
	used[corev1.ResourceRequestsStorage] = storage
	if class != "" {
		used[corev1.ResourceName(class+storageClassSuffix)+corev1.ResourceRequestsStorage] = storage
	}
}

// names are those of the quota's resources that the object's kind can take of.
func (o Object) names(of corev1.ResourceList) []corev1.ResourceName {
	var found []corev1.ResourceName
	for _, name := range apiquota.ResourceNames(of) {
		if kind, ok := Kind(name); ok && kind == o.Resource {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// Kind is the kind whose objects take of a resource; ok is false for names that mean
// nothing.
func Kind(name corev1.ResourceName) (kind schema.GroupResource, ok bool) {
	text := string(name)
	switch {
	case strings.HasPrefix(text, CountPrefix):
		return schema.ParseGroupResource(strings.TrimPrefix(text, CountPrefix)), true
	case strings.Contains(text, storageClassSuffix), name == corev1.ResourceRequestsStorage:
		return Claims, true
	case strings.HasPrefix(text, "services."):
		return Services, true
	case slices.Contains(numbered, text):
		return schema.GroupResource{Resource: text}, true
	case name == corev1.ResourcePods, isCompute(text):
		return Pods, true
	}
	return schema.GroupResource{}, false
}

func isCompute(name string) bool {
	bare := strings.TrimPrefix(strings.TrimPrefix(name, corev1.DefaultResourceRequestsPrefix), "limits.")
	switch corev1.ResourceName(bare) {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return strings.HasPrefix(bare, corev1.ResourceHugePagesPrefix) || bare != name && extended(corev1.ResourceName(bare))
}

// UpstreamGroup is the group of the built-in kinds for the group in which objects are
// stored; stored says whether it is one of Keelson's.
func UpstreamGroup(group string) (upstream string, stored bool) {
	name, ours := strings.CutSuffix(group, keelsonSuffix)
	switch {
	case !ours:
		return group, false
	case name == "core":
		return "", true
	case slices.Contains(longGroups, name):
		return name + longSuffix, true
	}
	return name, true
}

// StoredGroups are the groups in which objects may be stored that a quota names by an
// upstream group, Keelson's first.
func StoredGroups(upstream string) []string {
	short, long := strings.CutSuffix(upstream, longSuffix)
	switch {
	case upstream == "":
		return []string{"core" + keelsonSuffix, ""}
	case long && slices.Contains(longGroups, short):
		return []string{short + keelsonSuffix, upstream}
	case strings.Contains(upstream, "."):
		return []string{upstream}
	}
	return []string{upstream + keelsonSuffix, upstream}
}

const (
	keelsonSuffix = ".keelson.dev"
	longSuffix    = ".k8s.io"
)

// longGroups are upstream groups with a domain of which Keelson has kinds.
var longGroups = []string{"discovery", "networking"}
