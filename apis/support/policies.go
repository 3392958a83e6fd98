package support

import (
	"reflect"

	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	upstreampolicyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CheckHorizontalPodAutoscaler reports every field of a HorizontalPodAutoscaler's
// spec at path that Keelson does not implement.
func CheckHorizontalPodAutoscaler(spec *upstreamautoscalingv2.HorizontalPodAutoscalerSpec, path *field.Path) field.ErrorList {
	return horizontalPodAutoscalerTable().check(spec, path)
}

// CheckPodDisruptionBudget does the same for a PodDisruptionBudget's spec.
func CheckPodDisruptionBudget(spec *upstreampolicyv1.PodDisruptionBudgetSpec, path *field.Path) field.ErrorList {
	return podDisruptionBudgetTable().check(spec, path)
}

// CheckLimitRange does the same for a LimitRange's spec.
func CheckLimitRange(spec *corev1.LimitRangeSpec, path *field.Path) field.ErrorList {
	return limitRangeTable().check(spec, path)
}

// CheckResourceQuota does the same for a ResourceQuota's spec.
func CheckResourceQuota(spec *corev1.ResourceQuotaSpec, path *field.Path) field.ErrorList {
	return resourceQuotaTable().check(spec, path)
}

func horizontalPodAutoscalerTable() Table {
	t := Table{Kind: "HorizontalPodAutoscaler", Root: "spec", Type: reflect.TypeFor[upstreamautoscalingv2.HorizontalPodAutoscalerSpec](), Entries: map[string]Entry{}}
	t.with("spec.", supported(), "minReplicas", "maxReplicas", "metrics", "metrics[*].type", "behavior")
	t.with("spec.scaleTargetRef", supported(), "", ".kind", ".name", ".apiVersion")
	for _, source := range []string{"object", "pods", "resource", "containerResource", "external"} {
		path := "spec.metrics[*]." + source
		t.with(path, supported(), "")
		t.with(path+".target", supported(), "", ".type", ".value", ".averageValue", ".averageUtilization")
		switch source {
		case "resource":
			t.with(path+".", supported(), "name")
		case "containerResource":
			t.with(path+".", supported(), "name", "container")
		default:
			t.with(path+".metric", supported(), "", ".name")
			t.withSelector(path + ".metric.selector")
		}
	}
	t.with("spec.metrics[*].object.describedObject", supported(), "", ".kind", ".name", ".apiVersion")
	for _, direction := range []string{"spec.behavior.scaleUp", "spec.behavior.scaleDown"} {
		t.with(direction, supported(), "", ".stabilizationWindowSeconds", ".selectPolicy", ".policies", ".tolerance",
			".policies[*].type", ".policies[*].value", ".policies[*].periodSeconds")
	}
	return t
}

func podDisruptionBudgetTable() Table {
	t := Table{Kind: "PodDisruptionBudget", Root: "spec", Type: reflect.TypeFor[upstreampolicyv1.PodDisruptionBudgetSpec](), Entries: map[string]Entry{}}
	return t.withSelector("spec.selector").with("spec.", supported(), "minAvailable", "maxUnavailable", "unhealthyPodEvictionPolicy")
}

func limitRangeTable() Table {
	t := Table{Kind: "LimitRange", Root: "spec", Type: reflect.TypeFor[corev1.LimitRangeSpec](), Entries: map[string]Entry{
		"spec.limits[*].type": only("claims of storage are not bound yet", string(corev1.LimitTypeContainer), string(corev1.LimitTypePod)),
	}}
	t.with("spec.", supported(), "limits")
	return t.with("spec.limits[*].", supported(), "max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
}

func resourceQuotaTable() Table {
	t := Table{Kind: "ResourceQuota", Root: "spec", Type: reflect.TypeFor[corev1.ResourceQuotaSpec](), Entries: map[string]Entry{}}
	t.with("spec.", supported(), "hard", "scopes")
	return t.with("spec.scopeSelector", supported(), "", ".matchExpressions",
		".matchExpressions[*].scopeName", ".matchExpressions[*].operator", ".matchExpressions[*].values")
}
