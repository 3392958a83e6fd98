package admission

import (
	"context"
	"fmt"

	upstreamappsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/apis/support"
)

// The rules for updates are those of upstream's pkg/apis/{apps,batch}/validation.

func checkReplicaSetUpdate(spec, old *upstreamappsv1.ReplicaSetSpec) field.ErrorList {
	return fixed(equality.Semantic.DeepEqual(spec.Selector, old.Selector), specPath.Child("selector"), spec.Selector)
}

func checkDeploymentUpdate(spec, old *upstreamappsv1.DeploymentSpec) field.ErrorList {
	return fixed(equality.Semantic.DeepEqual(spec.Selector, old.Selector), specPath.Child("selector"), spec.Selector)
}

func checkDaemonSetUpdate(spec, old *upstreamappsv1.DaemonSetSpec) field.ErrorList {
	return fixed(equality.Semantic.DeepEqual(spec.Selector, old.Selector), specPath.Child("selector"), spec.Selector)
}

// checkStatefulSetUpdate fixes what the identity of Pods depends on; each field is named.
func checkStatefulSetUpdate(spec, old *upstreamappsv1.StatefulSetSpec) field.ErrorList {
	errs := fixed(equality.Semantic.DeepEqual(spec.Selector, old.Selector), specPath.Child("selector"), spec.Selector)
	errs = append(errs, fixed(equality.Semantic.DeepEqual(spec.VolumeClaimTemplates, old.VolumeClaimTemplates), specPath.Child("volumeClaimTemplates"), spec.VolumeClaimTemplates)...)
	errs = append(errs, fixed(spec.ServiceName == old.ServiceName, specPath.Child("serviceName"), spec.ServiceName)...)
	return append(errs, fixed(spec.PodManagementPolicy == old.PodManagementPolicy, specPath.Child("podManagementPolicy"), spec.PodManagementPolicy)...)
}

// reviewControllerRevision: what a revision says never changes.
func reviewControllerRevision(_ context.Context, c change) (outcome, error) {
	_, revision, old, err := decodeAll[appsv1.ControllerRevision](c)
	if err != nil {
		return outcome{}, err
	}
	if old == nil {
		return outcome{}, nil
	}
	before, err := decodeTree(c.old)
	if err != nil {
		return outcome{}, fmt.Errorf("decode the stored object: %w", err)
	}
	now, err := decodeTree(c.user)
	if err != nil {
		return outcome{}, err
	}
	return outcome{errors: fixed(equality.Semantic.DeepEqual(now["data"], before["data"]), field.NewPath("data"), revision.Data)}, nil
}

// reviewPodTemplate also writes the columns: no controller looks after PodTemplates.
func reviewPodTemplate(_ context.Context, c change) (outcome, error) {
	_, template, old, err := decodeAll[keelsonv1.PodTemplate](c)
	if err != nil {
		return outcome{}, err
	}
	path := field.NewPath("template")
	errs := support.CheckPod(&template.Template.Spec, path.Child("spec"))
	if old != nil {
		errs = ratchet(errs, support.CheckPod(&old.Template.Spec, path.Child("spec")))
	}
	return outcome{set: map[string]any{
		"template": template.Template,
		"status":   keelsonv1.PodTemplateStatus{Summary: summary.PodTemplate(&template.Template)},
	}, errors: errs}, nil
}
