package job

import (
	"fmt"
	"slices"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// failure is what spec.podFailurePolicy makes of one failed Pod.
type failure struct {
	// action is that of the first rule that matches; "" when none does.
	action upstreambatchv1.PodFailurePolicyAction
	// failsJob says why the whole Job fails; "" when it does not.
	failsJob string
}

// counts says whether the Pod counts towards backoffLimit and backoffLimitPerIndex.
func (f failure) counts() bool { return f.action != upstreambatchv1.PodFailurePolicyActionIgnore }

// judgeFailure applies the first rule of policy that matches pod. Texts are upstream's
// (pkg/controller/job/pod_failure_policy.go).
func judgeFailure(policy *upstreambatchv1.PodFailurePolicy, pod *keelsonv1.Pod) failure {
	if policy == nil {
		return failure{}
	}
	for i := range policy.Rules {
		rule := &policy.Rules[i]
		what := matchRule(rule, pod)
		if what == "" {
			continue
		}
		f := failure{action: rule.Action}
		if rule.Action == upstreambatchv1.PodFailurePolicyActionFailJob {
			f.failsJob = fmt.Sprintf("%s matching %v rule at index %d", what, rule.Action, i)
		}
		return f
	}
	return failure{}
}

// matchRule says what about pod matches rule; "" when nothing does.
func matchRule(rule *upstreambatchv1.PodFailurePolicyRule, pod *keelsonv1.Pod) string {
	if rule.OnExitCodes != nil {
		// Containers first: of two that match, upstream names the container.
		for _, statuses := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
			for i := range statuses {
				if s := &statuses[i]; matchExitCode(rule.OnExitCodes, s) {
					return fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v", s.Name, pod.Namespace, pod.Name, s.State.Terminated.ExitCode)
				}
			}
		}
		return ""
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		for _, pattern := range rule.OnPodConditions {
			if c.Type == pattern.Type && c.Status == pattern.Status {
				return fmt.Sprintf("Pod %s/%s has condition %v", pod.Namespace, pod.Name, c.Type)
			}
		}
	}
	return ""
}

func matchExitCode(rule *upstreambatchv1.PodFailurePolicyOnExitCodesRequirement, status *corev1.ContainerStatus) bool {
	ended := status.State.Terminated
	if ended == nil || ended.ExitCode == 0 || rule.ContainerName != nil && *rule.ContainerName != status.Name {
		return false
	}
	listed := slices.Contains(rule.Values, ended.ExitCode)
	switch rule.Operator {
	case upstreambatchv1.PodFailurePolicyOnExitCodesOpIn:
		return listed
	case upstreambatchv1.PodFailurePolicyOnExitCodesOpNotIn:
		return !listed
	}
	return false
}

// matchSuccess says which rule of policy the succeeded indexes meet; "" for none.
func matchSuccess(policy *upstreambatchv1.SuccessPolicy, completions int, succeeded indexes) string {
	if policy == nil || len(succeeded) == 0 {
		return ""
	}
	for i := range policy.Rules {
		rule := &policy.Rules[i]
		if meetsRule(rule, completions, succeeded) {
			return fmt.Sprintf("Matched rules at index %d", i)
		}
	}
	return ""
}

func meetsRule(rule *upstreambatchv1.SuccessPolicyRule, completions int, succeeded indexes) bool {
	if rule.SucceededIndexes == nil {
		return rule.SucceededCount != nil && succeeded.total() >= int(*rule.SucceededCount)
	}
	wanted := parseIndexes(*rule.SucceededIndexes, completions)
	if len(wanted) == 0 {
		return false
	}
	n := succeeded.overlap(wanted)
	return n == wanted.total() || rule.SucceededCount != nil && n >= int(*rule.SucceededCount)
}
