package table

import (
	upstreamappsv1 "k8s.io/api/apps/v1"
	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	upstreamnetworkingv1 "k8s.io/api/networking/v1"
	upstreampolicyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	networkingv1 "github.com/keelson-dev/keelson/apis/networking/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
)

// Keelson is the table of every kind that Keelson has.
func Keelson() *Table {
	core := group{corev1.SchemeGroupVersion, keelsonv1.GroupVersion}
	apps := group{upstreamappsv1.SchemeGroupVersion, appsv1.GroupVersion}
	batch := group{upstreambatchv1.SchemeGroupVersion, batchv1.GroupVersion}
	autoscaling := group{upstreamautoscalingv2.SchemeGroupVersion, autoscalingv2.GroupVersion}
	policy := group{upstreampolicyv1.SchemeGroupVersion, policyv1.GroupVersion}
	discovery := group{upstreamdiscoveryv1.SchemeGroupVersion, discoveryv1.GroupVersion}
	networking := group{upstreamnetworkingv1.SchemeGroupVersion, networkingv1.GroupVersion}
	return New(
		core.row("pods", newObject[corev1.Pod], newObject[corev1.PodList], Row{Kind: "Pod", Namespaced: true, Status: true, ReturnsDeleted: true}),
		core.row("nodes", newObject[corev1.Node], newObject[corev1.NodeList], Row{Kind: "Node", Status: true}),
		core.row("replicationcontrollers", newObject[corev1.ReplicationController], newObject[corev1.ReplicationControllerList],
			Row{Kind: "ReplicationController", Namespaced: true, Status: true, Scale: true, OrphansByDefault: true}),
		core.row("services", newObject[corev1.Service], newObject[corev1.ServiceList],
			Row{Kind: "Service", Namespaced: true, Status: true, ReturnsDeleted: true, CreatesOnUpdate: true}),
		core.row("endpoints", newObject[corev1.Endpoints], newObject[corev1.EndpointsList], Row{Kind: "Endpoints", Namespaced: true, CreatesOnUpdate: true}),
		core.row("podtemplates", newObject[corev1.PodTemplate], newObject[corev1.PodTemplateList], Row{Kind: "PodTemplate", Namespaced: true, ReturnsDeleted: true}),
		core.row("limitranges", newObject[corev1.LimitRange], newObject[corev1.LimitRangeList], Row{Kind: "LimitRange", Namespaced: true, CreatesOnUpdate: true}),
		core.row("resourcequotas", newObject[corev1.ResourceQuota], newObject[corev1.ResourceQuotaList],
			Row{Kind: "ResourceQuota", Namespaced: true, Status: true, ReturnsDeleted: true}),
		apps.row("replicasets", newObject[upstreamappsv1.ReplicaSet], newObject[upstreamappsv1.ReplicaSetList],
			Row{Kind: "ReplicaSet", Namespaced: true, Status: true, Scale: true}),
		apps.row("deployments", newObject[upstreamappsv1.Deployment], newObject[upstreamappsv1.DeploymentList],
			Row{Kind: "Deployment", Namespaced: true, Status: true, Scale: true}),
		apps.row("daemonsets", newObject[upstreamappsv1.DaemonSet], newObject[upstreamappsv1.DaemonSetList],
			Row{Kind: "DaemonSet", Namespaced: true, Status: true}),
		apps.row("statefulsets", newObject[upstreamappsv1.StatefulSet], newObject[upstreamappsv1.StatefulSetList],
			Row{Kind: "StatefulSet", Namespaced: true, Status: true, Scale: true}),
		apps.row("controllerrevisions", newObject[upstreamappsv1.ControllerRevision], newObject[upstreamappsv1.ControllerRevisionList],
			Row{Kind: "ControllerRevision", Namespaced: true}),
		batch.row("jobs", newObject[upstreambatchv1.Job], newObject[upstreambatchv1.JobList],
			Row{Kind: "Job", Namespaced: true, Status: true, OrphansByDefault: true}),
		batch.row("cronjobs", newObject[upstreambatchv1.CronJob], newObject[upstreambatchv1.CronJobList], Row{Kind: "CronJob", Namespaced: true, Status: true}),
		autoscaling.row("horizontalpodautoscalers", newObject[upstreamautoscalingv2.HorizontalPodAutoscaler], newObject[upstreamautoscalingv2.HorizontalPodAutoscalerList],
			Row{Kind: "HorizontalPodAutoscaler", Namespaced: true, Status: true, OlderVersions: []string{"v1"}}),
		policy.row("poddisruptionbudgets", newObject[upstreampolicyv1.PodDisruptionBudget], newObject[upstreampolicyv1.PodDisruptionBudgetList],
			Row{Kind: "PodDisruptionBudget", Namespaced: true, Status: true}),
		discovery.row("endpointslices", newObject[upstreamdiscoveryv1.EndpointSlice], newObject[upstreamdiscoveryv1.EndpointSliceList],
			Row{Kind: "EndpointSlice", Namespaced: true}),
		networking.row("networkpolicies", newObject[upstreamnetworkingv1.NetworkPolicy], newObject[upstreamnetworkingv1.NetworkPolicyList],
			Row{Kind: "NetworkPolicy", Namespaced: true}),
	)
}

// group is one API group in its two forms.
type group struct{ upstream, stored schema.GroupVersion }

func (g group) row(plural string, newOne, newList func() runtime.Object, row Row) Row {
	row.Upstream, row.Stored = g.upstream.WithResource(plural), g.stored.WithResource(plural)
	row.New, row.NewList = newOne, newList
	return row
}

func newObject[T any, P interface {
	*T
	runtime.Object
}]() runtime.Object {
	return P(new(T))
}
