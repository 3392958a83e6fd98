package admission

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/support"
	"github.com/keelson-dev/keelson/controllers/internal/podadmission"
)

// DryRunAccount is the ServiceAccount that dry-run Pods name. It exists only so
// that upstream's ServiceAccount plugin finds one, and mounts no token.
const DryRunAccount = "keelson-dry-run"

// preparePod sets aside what upstream's plugins would judge by the objects of the
// dry-run namespace: the account. Classes of priority and of runtime are the host
// cluster's own, and their plugins complete the Pod; on update the priority is set
// aside, too, because it stays what it was when its class has changed.
func preparePod(probe tree, old []byte) error {
	spec := probe.child("spec")
	if spec == nil {
		return nil
	}
	if old != nil {
		lendEphemeral(spec)
		forgetLabelKeys(spec)
	}
	takeIf[string](spec, "serviceAccountName", "serviceAccount")
	if old != nil {
		takeIf[string](spec, "priorityClassName", "preemptionPolicy")
		takeIf[interface{ Int64() (int64, error) }](spec, "priority")
	}
	takeIf[bool](spec, "automountServiceAccountToken")
	if _, taken := spec["serviceAccountName"]; !taken && !isMirror(probe) {
		spec["serviceAccountName"] = DryRunAccount
	}
	if _, taken := spec["automountServiceAccountToken"]; !taken {
		spec["automountServiceAccountToken"] = false
	}
	return nil
}

// review restores what preparePod set aside, completes the Pod as for its own namespace,
// and applies Keelson's rules.
func (p podPolicy) review(ctx context.Context, c change) (outcome, error) {
	user, pod, old, err := decodeAll[keelsonv1.Pod](c)
	if err != nil {
		return outcome{}, err
	}
	pod.Namespace = c.namespace
	completePod(c, pod, user, old)
	if refusal, err := p.byNamespace(ctx, c, pod, old); refusal != nil || err != nil {
		return outcome{refusal: refusal}, err
	}
	errs := checkPod(user, pod, old)
	if old != nil && c.answer != nil {
		changed, refusal, err := p.reviewChange(ctx, pod, old)
		errs = append(errs, changed...)
		if err != nil || refusal != nil && len(errs) == 0 {
			return outcome{refusal: refusal}, err
		}
	}
	return outcome{
		set:      map[string]any{"spec": pod.Spec, "metadata": setMetadata(nil, pod.Annotations, pod.Finalizers)},
		errors:   errs,
		warnings: p.warnings(ctx, c.namespace, &corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}),
	}, nil
}

// completePod gives pod, which is upstream's answer if there is one, what was set aside,
// and what every Pod gets.
func completePod(c change, pod, user, old *keelsonv1.Pod) {
	if old != nil && c.answer != nil {
		returnEphemeral(&pod.Spec, &user.Spec)
		restoreLabelKeys(&pod.Spec, &user.Spec)
	}
	pod.Name, pod.Finalizers = user.Name, user.Finalizers
	pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = user.Spec.ServiceAccountName, user.Spec.DeprecatedServiceAccount
	pod.Spec.AutomountServiceAccountToken = user.Spec.AutomountServiceAccountToken
	if old != nil {
		keepPriority(&pod.Spec, &user.Spec, &old.Spec)
	}
	podadmission.Default(pod)
	if old != nil {
		podadmission.KeepToken(&pod.Spec, &old.Spec)
		// Removing the finalizer of a bound Pod is how a person forces its deletion.
		pod.Finalizers = user.Finalizers
	}
}

// byNamespace completes a new Pod, and judges a changed one, by what its Namespace says.
// One that upstream refused gets its errors instead.
func (p podPolicy) byNamespace(ctx context.Context, c change, pod, old *keelsonv1.Pod) (*metav1.Status, error) {
	switch {
	case c.answer == nil:
		return nil, nil //nolint:nilnil // nothing to say
	case old == nil:
		return p.complete(ctx, pod)
	}
	return p.recheck(ctx, pod, old)
}

// checkPod lists what Keelson does not have, as far as it was not stored before.
func checkPod(user, pod, old *keelsonv1.Pod) field.ErrorList {
	errs := append(support.CheckPod(&pod.Spec, specPath), checkAccountName(pod.Spec.ServiceAccountName)...)
	if old == nil {
		return errs
	}
	errs = ratchet(errs, support.CheckPod(&old.Spec, specPath))
	return append(errs, ratchet(checkEphemeralFields(&user.Spec), checkEphemeralFields(&old.Spec))...)
}

// reviewChange judges what an update changes. The refusal counts where there are no
// errors.
func (p podPolicy) reviewChange(ctx context.Context, pod, old *keelsonv1.Pod) (field.ErrorList, *metav1.Status, error) {
	errs, err := checkPodUpdate(&pod.Spec, &old.Spec)
	if err != nil {
		return nil, nil, err
	}
	errs = append(append(errs, checkEphemeralKept(pod, old)...), checkResize(pod, old)...)
	refusal, err := checkRoom(ctx, p.nodes, pod, old)
	return errs, refusal, err
}

// keepPriority restores what preparePod set aside; what an update leaves out stays as
// it was, as upstream has it.
func keepPriority(spec, user, old *corev1.PodSpec) {
	spec.PriorityClassName, spec.Priority, spec.PreemptionPolicy = user.PriorityClassName, user.Priority, user.PreemptionPolicy
	if spec.Priority == nil {
		spec.Priority = old.Priority
	}
	if spec.PreemptionPolicy == nil {
		spec.PreemptionPolicy = old.PreemptionPolicy
	}
}

func checkAccountName(name string) field.ErrorList {
	if name == "" {
		return nil // only a mirror has none
	}
	problems := validation.ValidateServiceAccountName(name, false)
	if len(problems) == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(specPath.Child("serviceAccountName"), name, strings.Join(problems, ","))}
}

const mutablePodFields = "only the images of containers, their cpu and memory, a shorter active deadline, added tolerations, added ephemeral containers, removed scheduling gates, what a gated Pod asks of its node and a negative grace period may change; delete the Pod and create it again"

// checkPodUpdate allows the changes that upstream allows, of the fields that
// Keelson supports, and names each of the others. spec.nodeName is among the
// others: only the scheduler's binding sets it.
func checkPodUpdate(spec, old *corev1.PodSpec) (field.ErrorList, error) {
	errs := append(checkTolerationsKept(spec.Tolerations, old.Tolerations), checkDeadline(spec.ActiveDeadlineSeconds, old.ActiveDeadlineSeconds)...)
	errs = append(errs, checkGatesRemoved(spec.SchedulingGates, old.SchedulingGates)...)
	munged := spec.DeepCopy()
	munged.SchedulingGates = old.SchedulingGates
	errs = append(errs, checkTightened(munged, old)...)
	munged.Tolerations, munged.EphemeralContainers = old.Tolerations, old.EphemeralContainers
	munged.ActiveDeadlineSeconds = old.ActiveDeadlineSeconds
	restoreImages(munged.Containers, old.Containers)
	restoreImages(munged.InitContainers, old.InitContainers)
	restoreResources(munged, old)
	if grace := old.TerminationGracePeriodSeconds; grace != nil && *grace < 0 {
		if now := munged.TerminationGracePeriodSeconds; now != nil && *now == 1 {
			munged.TerminationGracePeriodSeconds = grace
		}
	}
	if equality.Semantic.DeepEqual(munged, old) {
		return errs, nil
	}
	changed, err := changedFields(munged, old, specPath)
	if err != nil {
		return nil, err
	}
	for _, path := range changed {
		errs = append(errs, field.Forbidden(path, "may not change after creation: "+mutablePodFields))
	}
	return errs, nil
}

func restoreImages(now, old []corev1.Container) {
	if len(now) != len(old) {
		return
	}
	for i := range now {
		now[i].Image = old[i].Image
	}
}

// checkDeadline allows a deadline to be set, and to be shortened.
func checkDeadline(now, old *int64) field.ErrorList {
	path := specPath.Child("activeDeadlineSeconds")
	switch {
	case old == nil:
		return nil
	case now == nil:
		return field.ErrorList{field.Invalid(path, now, "must not update from a positive integer to nil value")}
	case *now > *old:
		return field.ErrorList{field.Invalid(path, *now, "must be less than or equal to previous value")}
	default:
		return nil
	}
}

func checkTolerationsKept(now, old []corev1.Toleration) field.ErrorList {
	for _, o := range old {
		kept := false
		for _, n := range now {
			n.TolerationSeconds = o.TolerationSeconds
			kept = kept || equality.Semantic.DeepEqual(n, o)
		}
		if !kept {
			return field.ErrorList{field.Forbidden(specPath.Child("tolerations"), "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}
