package staticpods

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/support"
)

var (
	metadataPath = field.NewPath("metadata")
	specPath     = field.NewPath("spec")
)

// checkMetadata refuses what a manifest cannot say of a static Pod. What an object that
// was read from an API server carries of it is left out instead.
func checkMetadata(pod *keelsonv1.Pod) field.ErrorList {
	var errs field.ErrorList
	refuse := func(set bool, name, why string) {
		if set {
			errs = append(errs, field.Forbidden(metadataPath.Child(name), why))
		}
	}
	refuse(pod.UID != "", "uid", "the UID of a static Pod follows from its manifest: leave it out")
	refuse(pod.GenerateName != "", "generateName", "a static Pod is called by its name and its node")
	refuse(len(pod.OwnerReferences) > 0, "ownerReferences", "a static Pod belongs to its node")
	refuse(len(pod.Finalizers) > 0, "finalizers", "a static Pod ends with its manifest")
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	refuse(mirror, "annotations", "kubernetes.io/config.mirror marks the mirror of a static Pod: leave it out")
	if node := pod.Spec.NodeName; node != "" {
		errs = append(errs, field.Forbidden(specPath.Child("nodeName"), "a static Pod runs on the node that has its manifest: leave it out"))
	}
	return errs
}

// Validate checks a completed Pod for what would keep it from running, in upstream's
// words, and for what this version does not implement. The API server judges the mirror
// by all of its rules.
func Validate(pod *keelsonv1.Pod) field.ErrorList {
	errs := validateNames(pod)
	spec := &pod.Spec
	errs = append(errs, oneOf(specPath.Child("restartPolicy"), spec.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, oneOf(specPath.Child("dnsPolicy"), spec.DNSPolicy,
		corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, corev1.DNSDefault, corev1.DNSNone)...)
	if s := spec.ActiveDeadlineSeconds; s != nil && *s < 1 {
		errs = append(errs, field.Invalid(specPath.Child("activeDeadlineSeconds"), *s, "must be between 1 and 2147483647, inclusive"))
	}
	if len(spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), "cannot be set on create"))
	}
	volumes, volumeErrs := validateVolumes(spec.Volumes)
	errs = append(errs, volumeErrs...)
	errs = append(errs, validateContainers(spec, volumes)...)
	errs = append(errs, ValidateSecurity(spec)...)
	errs = append(errs, support.CheckPod(spec, specPath)...)
	slices.SortFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Error(), b.Error()) })
	// The same manifest gives the same text, and no fault stands there twice.
	return slices.CompactFunc(errs, func(a, b *field.Error) bool { return a.Error() == b.Error() })
}

func validateNames(pod *keelsonv1.Pod) field.ErrorList {
	var errs field.ErrorList
	for _, problem := range apivalidation.NameIsDNSSubdomain(pod.Name, false) {
		errs = append(errs, field.Invalid(metadataPath.Child("name"), pod.Name, problem))
	}
	for _, problem := range apivalidation.ValidateNamespaceName(pod.Namespace, false) {
		errs = append(errs, field.Invalid(metadataPath.Child("namespace"), pod.Namespace, problem))
	}
	errs = append(errs, metav1validation.ValidateLabels(pod.Labels, metadataPath.Child("labels"))...)
	return append(errs, apivalidation.ValidateAnnotations(pod.Annotations, metadataPath.Child("annotations"))...)
}

func oneOf[T ~string](path *field.Path, value T, known ...T) field.ErrorList {
	if slices.Contains(known, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, known)}
}

// validateVolumes returns the names of volumes too.
func validateVolumes(volumes []corev1.Volume) (sets.Set[string], field.ErrorList) {
	names := sets.New[string]()
	var errs field.ErrorList
	for i := range volumes {
		v, path := &volumes[i], specPath.Child("volumes").Index(i)
		errs = append(errs, label(path.Child("name"), v.Name, names)...)
		if v.HostPath == nil {
			continue
		}
		if v.HostPath.Path == "" {
			errs = append(errs, field.Required(path.Child("hostPath", "path"), ""))
		} else if containsDotDot(v.HostPath.Path) {
			errs = append(errs, field.Invalid(path.Child("hostPath", "path"), v.HostPath.Path, "must not contain '..'"))
		}
		errs = append(errs, oneOf(path.Child("hostPath", "type"), *v.HostPath.Type,
			corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
			corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev)...)
	}
	return names, errs
}

// label checks a name that is a DNS label and unique among names, to which it is added.
func label(path *field.Path, name string, names sets.Set[string]) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	for _, problem := range validation.IsDNS1123Label(name) {
		errs = append(errs, field.Invalid(path, name, problem))
	}
	if names.Has(name) {
		errs = append(errs, field.Duplicate(path, name))
	}
	names.Insert(name)
	return errs
}

func sortedResources(list corev1.ResourceList) []corev1.ResourceName {
	return slices.Sorted(maps.Keys(list))
}
