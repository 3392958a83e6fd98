package schedulerconfig

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kubeschedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
)

const (
	defaultCandidatePercentage = 10
	defaultCandidateNodes      = 100
)

// parseArgs reads the arguments of plug-ins into s, and those of preemption.
func parseArgs(all []kubeschedulerv1.PluginConfig, s *plugins.Settings, path *field.Path) (*plugins.Preemption, field.ErrorList) {
	preemption := &plugins.Preemption{MinCandidatePercentage: defaultCandidatePercentage, MinCandidateNodes: defaultCandidateNodes}
	parsers := map[string]func(raw []byte, path *field.Path) field.ErrorList{
		plugins.NameNodeAffinity:       func(raw []byte, at *field.Path) field.ErrorList { return parseNodeAffinity(raw, s, at) },
		plugins.NameNodeResourcesFit:   func(raw []byte, at *field.Path) field.ErrorList { return parseFit(raw, s, at) },
		plugins.NameBalancedAllocation: func(raw []byte, at *field.Path) field.ErrorList { return parseBalanced(raw, s, at) },
		plugins.NamePodTopologySpread:  func(raw []byte, at *field.Path) field.ErrorList { return parseSpread(raw, s, at) },
		plugins.NameInterPodAffinity:   func(raw []byte, at *field.Path) field.ErrorList { return parsePodAffinity(raw, s, at) },
		plugins.NameDefaultPreemption:  func(raw []byte, at *field.Path) field.ErrorList { return parsePreemption(raw, preemption, at) },
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range all {
		name, at := all[i].Name, path.Index(i)
		parse, known := parsers[name]
		switch {
		case !known:
			errs = append(errs, field.Invalid(at.Child("name"), name, "there is no such plug-in, or it takes no arguments"))
			continue
		case seen[name]:
			errs = append(errs, field.Duplicate(at.Child("name"), name))
			continue
		}
		seen[name] = true
		errs = append(errs, parse(all[i].Args.Raw, at.Child("args"))...)
	}
	return preemption, errs
}

// decode reads arguments strictly. typeMeta is that of args, whose kind may be left out.
func decode(raw []byte, args any, typeMeta *metav1.TypeMeta, kind string, path *field.Path) *field.Error {
	if len(raw) > 0 {
		if err := yaml.UnmarshalStrict(raw, args); err != nil {
			return field.Invalid(path, string(raw), err.Error())
		}
	}
	if typeMeta.Kind != "" && typeMeta.Kind != kind || typeMeta.APIVersion != "" && typeMeta.APIVersion != apiVersion {
		return field.Invalid(path.Child("kind"), typeMeta.APIVersion+" "+typeMeta.Kind, fmt.Sprintf("must be %s %s", apiVersion, kind))
	}
	return nil
}

func parseNodeAffinity(raw []byte, s *plugins.Settings, path *field.Path) field.ErrorList {
	var args kubeschedulerv1.NodeAffinityArgs
	if err := decode(raw, &args, &args.TypeMeta, "NodeAffinityArgs", path); err != nil {
		return field.ErrorList{err}
	}
	s.AddedAffinity = args.AddedAffinity
	if _, err := plugins.NewFilter(plugins.NameNodeAffinity, *s); err != nil {
		return field.ErrorList{field.Invalid(path, "addedAffinity", err.Error())}
	}
	return nil
}

func parsePodAffinity(raw []byte, s *plugins.Settings, path *field.Path) field.ErrorList {
	var args kubeschedulerv1.InterPodAffinityArgs
	if err := decode(raw, &args, &args.TypeMeta, "InterPodAffinityArgs", path); err != nil {
		return field.ErrorList{err}
	}
	s.IgnorePreferredTermsOfExistingPods = args.IgnorePreferredTermsOfExistingPods
	if weight := args.HardPodAffinityWeight; weight != nil {
		if *weight < 0 || *weight > 100 {
			return field.ErrorList{field.Invalid(path.Child("hardPodAffinityWeight"), *weight, "not in valid range [0, 100]")}
		}
		s.HardPodAffinityWeight = int64(*weight)
	}
	return nil
}

func parsePreemption(raw []byte, p *plugins.Preemption, path *field.Path) field.ErrorList {
	var args kubeschedulerv1.DefaultPreemptionArgs
	if err := decode(raw, &args, &args.TypeMeta, "DefaultPreemptionArgs", path); err != nil {
		return field.ErrorList{err}
	}
	var errs field.ErrorList
	percentage, nodes := path.Child("minCandidateNodesPercentage"), path.Child("minCandidateNodesAbsolute")
	if v := args.MinCandidateNodesPercentage; v != nil {
		if *v < 0 || *v > 100 {
			errs = append(errs, field.Invalid(percentage, *v, "not in valid range [0, 100]"))
		}
		p.MinCandidatePercentage = int(*v)
	}
	if v := args.MinCandidateNodesAbsolute; v != nil {
		if *v < 0 {
			errs = append(errs, field.Invalid(nodes, *v, "not in valid range [0, inf)"))
		}
		p.MinCandidateNodes = int(*v)
	}
	if p.MinCandidatePercentage == 0 && p.MinCandidateNodes == 0 {
		errs = append(errs, field.Invalid(percentage, 0, "cannot be zero at the same time as minCandidateNodesAbsolute"))
	}
	return errs
}

func parseSpread(raw []byte, s *plugins.Settings, path *field.Path) field.ErrorList {
	var args kubeschedulerv1.PodTopologySpreadArgs
	if err := decode(raw, &args, &args.TypeMeta, "PodTopologySpreadArgs", path); err != nil {
		return field.ErrorList{err}
	}
	var errs field.ErrorList
	switch args.DefaultingType {
	case "", kubeschedulerv1.SystemDefaulting:
		s.SystemDefaults = true
		if len(args.DefaultConstraints) > 0 {
			errs = append(errs, field.Invalid(path.Child("defaultingType"), kubeschedulerv1.SystemDefaulting, "when .defaultConstraints are not empty"))
		}
	case kubeschedulerv1.ListDefaulting:
		s.SystemDefaults, s.DefaultConstraints = false, args.DefaultConstraints
	default:
		errs = append(errs, field.NotSupported(path.Child("defaultingType"), args.DefaultingType,
			[]kubeschedulerv1.PodTopologySpreadConstraintsDefaulting{kubeschedulerv1.ListDefaulting, kubeschedulerv1.SystemDefaulting}))
	}
	return append(errs, checkConstraints(args.DefaultConstraints, path.Child("defaultConstraints"))...)
}

func checkConstraints(all []corev1.TopologySpreadConstraint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	type pair struct {
		key    string
		action corev1.UnsatisfiableConstraintAction
	}
	seen := map[pair]bool{}
	for i := range all {
		c, at := &all[i], path.Index(i)
		if c.MaxSkew <= 0 {
			errs = append(errs, field.Invalid(at.Child("maxSkew"), c.MaxSkew, "not in valid range (0, inf)"))
		}
		if c.TopologyKey == "" {
			errs = append(errs, field.Required(at.Child("topologyKey"), "can not be empty"))
		}
		switch c.WhenUnsatisfiable {
		case corev1.DoNotSchedule, corev1.ScheduleAnyway:
		case "":
			errs = append(errs, field.Required(at.Child("whenUnsatisfiable"), "can not be empty"))
		default:
			errs = append(errs, field.NotSupported(at.Child("whenUnsatisfiable"), c.WhenUnsatisfiable,
				[]corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}))
		}
		if c.LabelSelector != nil {
			errs = append(errs, field.Forbidden(at.Child("labelSelector"), "constraint must not define a selector, as they deduced for each pod"))
		}
		if len(c.MatchLabelKeys) > 0 {
			errs = append(errs, field.Forbidden(at.Child("matchLabelKeys"), "the selector is deduced for each pod"))
		}
		p := pair{c.TopologyKey, c.WhenUnsatisfiable}
		if seen[p] {
			errs = append(errs, field.Duplicate(at, fmt.Sprintf("{%v, %v}", p.key, p.action)))
		}
		seen[p] = true
	}
	return errs
}
