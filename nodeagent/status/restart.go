package status

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// IsSidecar says that an init container is one that keeps running.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// ShouldRestart says whether a container that ended with code starts again: by the
// first of its rules that matches, by its own policy, or else by the Pod's.
func ShouldRestart(spec *corev1.PodSpec, c *corev1.Container, code int32) bool {
	if c.RestartPolicy != nil {
		switch rule := ruleFor(c, code); {
		case rule == nil:
		case rule.Action == corev1.ContainerRestartRuleActionRestart, rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers:
			return true
		}
	}
	return restarts(policyOf(spec, c), code)
}

// ShouldReplace says whether a container that is ended on purpose, because a probe
// failed or its sandbox is gone, starts again. No exit code speaks then.
func ShouldReplace(spec *corev1.PodSpec, c *corev1.Container) bool {
	return policyOf(spec, c) != corev1.RestartPolicyNever
}

func policyOf(spec *corev1.PodSpec, c *corev1.Container) corev1.RestartPolicy {
	if c.RestartPolicy != nil {
		return corev1.RestartPolicy(*c.RestartPolicy)
	}
	return spec.RestartPolicy
}

func restarts(policy corev1.RestartPolicy, code int32) bool {
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	default:
		return true
	}
}

func matches(rule corev1.ContainerRestartRule, code int32) bool {
	if rule.ExitCodes == nil {
		return false
	}
	listed := slices.Contains(rule.ExitCodes.Values, code)
	switch rule.ExitCodes.Operator {
	case corev1.ContainerRestartRuleOnExitCodesOpIn:
		return listed
	case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
		return !listed
	default:
		return false
	}
}
