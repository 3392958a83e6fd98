package support

import (
	"reflect"

	upstreamappsv1 "k8s.io/api/apps/v1"
	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CheckReplicaSet reports every field of a ReplicaSet's spec at path, its template
// included, that Keelson does not implement.
func CheckReplicaSet(spec *upstreamappsv1.ReplicaSetSpec, path *field.Path) field.ErrorList {
	return append(replicaSetTable().check(spec, path), checkTemplate(&spec.Template, path)...)
}

// CheckDeployment does the same for a Deployment's spec.
func CheckDeployment(spec *upstreamappsv1.DeploymentSpec, path *field.Path) field.ErrorList {
	return append(deploymentTable().check(spec, path), checkTemplate(&spec.Template, path)...)
}

// CheckDaemonSet does the same for a DaemonSet's spec.
func CheckDaemonSet(spec *upstreamappsv1.DaemonSetSpec, path *field.Path) field.ErrorList {
	return append(daemonSetTable().check(spec, path), checkTemplate(&spec.Template, path)...)
}

// CheckStatefulSet does the same for a StatefulSet's spec.
func CheckStatefulSet(spec *upstreamappsv1.StatefulSetSpec, path *field.Path) field.ErrorList {
	return append(statefulSetTable().check(spec, path), checkTemplate(&spec.Template, path)...)
}

// CheckJob does the same for a Job's spec.
func CheckJob(spec *upstreambatchv1.JobSpec, path *field.Path) field.ErrorList {
	return append(jobTable().check(spec, path), checkTemplate(&spec.Template, path)...)
}

// CheckCronJob does the same for a CronJob's spec, the spec of its Jobs included.
func CheckCronJob(spec *upstreambatchv1.CronJobSpec, path *field.Path) field.ErrorList {
	return append(cronJobTable().check(spec, path), CheckJob(&spec.JobTemplate.Spec, path.Child("jobTemplate", "spec"))...)
}

func checkTemplate(template *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	return CheckPod(&template.Spec, path.Child("template", "spec"))
}

// podTemplate is the entry of the template in a workload.
func podTemplate() Entry {
	return noted("labels, annotations and finalizers of its metadata go to the Pods; its spec has the fields of Pod")
}

// withSelector adds a label selector at path, which ends in no dot.
func (t Table) withSelector(path string) Table {
	t.with(path, supported(), "", ".matchLabels", ".matchExpressions")
	return t.with(path+".matchExpressions[*].", supported(), "key", "operator", "values")
}

func replicaSetTable() Table {
	t := Table{Kind: "ReplicaSet", Root: "spec", Type: reflect.TypeFor[upstreamappsv1.ReplicaSetSpec](), Entries: map[string]Entry{
		"spec.template": podTemplate(),
	}}
	return t.withSelector("spec.selector").with("spec.", supported(), "replicas", "minReadySeconds")
}

func deploymentTable() Table {
	t := Table{Kind: "Deployment", Root: "spec", Type: reflect.TypeFor[upstreamappsv1.DeploymentSpec](), Entries: map[string]Entry{
		"spec.template": podTemplate(),
	}}
	t.withSelector("spec.selector")
	t.with("spec.strategy", supported(), "", ".type", ".rollingUpdate", ".rollingUpdate.maxUnavailable", ".rollingUpdate.maxSurge")
	return t.with("spec.", supported(), "replicas", "minReadySeconds", "revisionHistoryLimit", "paused", "progressDeadlineSeconds")
}

func daemonSetTable() Table {
	t := Table{Kind: "DaemonSet", Root: "spec", Type: reflect.TypeFor[upstreamappsv1.DaemonSetSpec](), Entries: map[string]Entry{
		"spec.template": podTemplate(),
	}}
	t.withSelector("spec.selector")
	t.with("spec.updateStrategy", supported(), "", ".type", ".rollingUpdate", ".rollingUpdate.maxUnavailable", ".rollingUpdate.maxSurge")
	return t.with("spec.", supported(), "minReadySeconds", "revisionHistoryLimit")
}

func statefulSetTable() Table {
	t := Table{Kind: "StatefulSet", Root: "spec", Type: reflect.TypeFor[upstreamappsv1.StatefulSetSpec](), Entries: map[string]Entry{
		"spec.template":                             podTemplate(),
		"spec.volumeClaimTemplates":                 refused("claims of storage are not bound yet"),
		"spec.persistentVolumeClaimRetentionPolicy": noted("says nothing while there are no volumeClaimTemplates"),
	}}
	t.withSelector("spec.selector")
	t.with("spec.updateStrategy", supported(), "", ".type", ".rollingUpdate", ".rollingUpdate.partition", ".rollingUpdate.maxUnavailable")
	t.with("spec.persistentVolumeClaimRetentionPolicy.", supported(), "whenDeleted", "whenScaled")
	return t.with("spec.", supported(), "replicas", "serviceName", "podManagementPolicy", "revisionHistoryLimit", "minReadySeconds", "ordinals", "ordinals.start")
}

func jobTable() Table {
	t := Table{Kind: "Job", Root: "spec", Type: reflect.TypeFor[upstreambatchv1.JobSpec](), Entries: map[string]Entry{
		"spec.template":   podTemplate(),
		"spec.managedBy":  noted("a Job that names another controller is left to it"),
		"spec.scheduling": refused("upstream has it behind an alpha gate"),
	}}
	t.withSelector("spec.selector")
	rules := "spec.podFailurePolicy.rules[*]."
	t.with("spec.podFailurePolicy", supported(), "", ".rules")
	t.with(rules, supported(), "action", "onExitCodes", "onExitCodes.containerName", "onExitCodes.operator", "onExitCodes.values",
		"onPodConditions", "onPodConditions[*].type", "onPodConditions[*].status")
	t.with("spec.successPolicy", supported(), "", ".rules", ".rules[*].succeededIndexes", ".rules[*].succeededCount")
	return t.with("spec.", supported(), "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "backoffLimitPerIndex",
		"maxFailedIndexes", "manualSelector", "ttlSecondsAfterFinished", "completionMode", "suspend", "podReplacementPolicy")
}

func cronJobTable() Table {
	t := Table{Kind: "CronJob", Root: "spec", Type: reflect.TypeFor[upstreambatchv1.CronJobSpec](), Entries: map[string]Entry{
		"spec.jobTemplate": noted("labels and annotations of its metadata go to the Jobs; its spec has the fields of Job"),
	}}
	return t.with("spec.", supported(), "schedule", "timeZone", "startingDeadlineSeconds", "concurrencyPolicy", "suspend",
		"successfulJobsHistoryLimit", "failedJobsHistoryLimit")
}
