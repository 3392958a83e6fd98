package podadmission

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// Security judges Pods by the Pod Security Standards, at the levels that the labels of
// their Namespace say, as upstream's PodSecurity plugin without exemptions.
type Security struct{ evaluator policy.Evaluator }

// NewSecurity returns a Security with upstream's checks.
func NewSecurity() (Security, error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return Security{}, fmt.Errorf("set up the Pod Security Standards: %w", err)
	}
	return Security{evaluator}, nil
}

// privileged is the level of Namespaces that say nothing.
func privileged() psapi.Policy {
	all := psapi.LevelVersion{Level: psapi.LevelPrivileged, Version: psapi.LatestVersion()}
	return psapi.Policy{Enforce: all, Audit: all, Warn: all}
}

// Enforce says why a Pod may not be in a Namespace with such labels. Labels that cannot
// be read count as the strictest level.
func (s Security) Enforce(namespace map[string]string, meta *metav1.ObjectMeta, spec *corev1.PodSpec) error {
	levels, _ := psapi.PolicyToEvaluate(namespace, privileged())
	if detail := s.violations(levels.Enforce, meta, spec); detail != "" {
		return fmt.Errorf("violates PodSecurity %q: %s", levels.Enforce.String(), detail)
	}
	return nil
}

// Warnings are what the person gets to hear who writes such a Pod, or such a template.
func (s Security) Warnings(namespace map[string]string, meta *metav1.ObjectMeta, spec *corev1.PodSpec) []string {
	levels, _ := psapi.PolicyToEvaluate(namespace, privileged())
	if detail := s.violations(levels.Warn, meta, spec); detail != "" {
		return []string{fmt.Sprintf("would violate PodSecurity %q: %s", levels.Warn.String(), detail)}
	}
	return nil
}

func (s Security) violations(level psapi.LevelVersion, meta *metav1.ObjectMeta, spec *corev1.PodSpec) string {
	if level.Level == psapi.LevelPrivileged {
		return ""
	}
	result := policy.AggregateCheckResults(s.evaluator.EvaluatePod(level, meta, spec))
	if result.Allowed {
		return ""
	}
	return result.ForbiddenDetail()
}

// SecurityChanges says whether an update of a Pod may change what Security says: an
// image, or an ephemeral container, as upstream sees it.
func SecurityChanges(spec, old *corev1.PodSpec) bool {
	images := func(spec *corev1.PodSpec) map[string]string {
		all := map[string]string{}
		for _, c := range spec.Containers {
			all[c.Name] = c.Image
		}
		for _, c := range spec.InitContainers {
			all[c.Name] = c.Image
		}
		for _, c := range spec.EphemeralContainers {
			all[c.Name] = c.Image
		}
		return all
	}
	before := images(old)
	for name, image := range images(spec) {
		if was, had := before[name]; !had || was != image {
			return true
		}
	}
	return false
}
