package schedulerconfig

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kubeschedulerv1 "k8s.io/kube-scheduler/config/v1"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
)

const (
	// maxCustomScore is the best score in a shape; it counts as plugins.MaxScore.
	maxCustomScore = 10
	maxWeight      = 100
)

func parseFit(raw []byte, s *plugins.Settings, path *field.Path) field.ErrorList {
	var args kubeschedulerv1.NodeResourcesFitArgs
	if err := decode(raw, &args, &args.TypeMeta, "NodeResourcesFitArgs", path); err != nil {
		return field.ErrorList{err}
	}
	var errs field.ErrorList
	for i, group := range args.IgnoredResourceGroups {
		if strings.Contains(group, "/") {
			errs = append(errs, field.Invalid(path.Child("ignoredResourceGroups").Index(i), group, "resource group name can't contain '/'"))
		}
	}
	s.IgnoredResources, s.IgnoredResourceGroups = args.IgnoredResources, args.IgnoredResourceGroups
	if args.ScoringStrategy == nil {
		return errs
	}
	return append(errs, parseStrategy(args.ScoringStrategy, s, path.Child("scoringStrategy"))...)
}

func parseStrategy(from *kubeschedulerv1.ScoringStrategy, s *plugins.Settings, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	strategy := plugins.Strategy(from.Type)
	switch strategy {
	case plugins.LeastAllocated, plugins.MostAllocated:
		if from.RequestedToCapacityRatio != nil {
			errs = append(errs, field.Forbidden(path.Child("requestedToCapacityRatio"), "must be nil when type is not RequestedToCapacityRatio"))
		}
	case plugins.RequestedToCapacityRatio:
		if from.RequestedToCapacityRatio == nil {
			errs = append(errs, field.Required(path.Child("requestedToCapacityRatio"), "must be specified when type is RequestedToCapacityRatio"))
			break
		}
		shape, shapeErrs := parseShape(from.RequestedToCapacityRatio.Shape, path.Child("requestedToCapacityRatio", "shape"))
		s.Shape, errs = shape, append(errs, shapeErrs...)
	default:
		errs = append(errs, field.NotSupported(path.Child("type"), strategy,
			[]plugins.Strategy{plugins.LeastAllocated, plugins.MostAllocated, plugins.RequestedToCapacityRatio}))
	}
	s.Strategy = strategy
	if len(from.Resources) > 0 {
		resources, resourceErrs := parseResources(from.Resources, path.Child("resources"))
		s.FitResources, errs = resources, append(errs, resourceErrs...)
	}
	return errs
}

func parseResources(all []kubeschedulerv1.ResourceSpec, path *field.Path) ([]plugins.Resource, field.ErrorList) {
	var resources []plugins.Resource
	var errs field.ErrorList
	for i, r := range all {
		weight := r.Weight
		if weight == 0 {
			weight = 1
		}
		if weight < 1 || weight > maxWeight {
			errs = append(errs, field.Invalid(path.Index(i).Child("weight"), weight, fmt.Sprintf("resource weight of %v not in valid range (0, 100]", r.Name)))
		}
		resources = append(resources, plugins.Resource{Name: corev1.ResourceName(r.Name), Weight: weight})
	}
	return resources, errs
}

func parseShape(all []kubeschedulerv1.UtilizationShapePoint, path *field.Path) ([]plugins.Point, field.ErrorList) {
	var errs field.ErrorList
	if len(all) == 0 {
		return nil, field.ErrorList{field.Required(path, "at least one point must be specified")}
	}
	var shape []plugins.Point
	for i, p := range all {
		at := path.Index(i)
		if i > 0 && all[i-1].Utilization >= p.Utilization {
			errs = append(errs, field.Invalid(at.Child("utilization"), p.Utilization, "values must be sorted in increasing order"))
		}
		if p.Utilization < 0 || p.Utilization > 100 {
			errs = append(errs, field.Invalid(at.Child("utilization"), p.Utilization, "not in valid range [0, 100]"))
		}
		if p.Score < 0 || p.Score > maxCustomScore {
			errs = append(errs, field.Invalid(at.Child("score"), p.Score, "not in valid range [0, 10]"))
		}
		shape = append(shape, plugins.Point{Utilization: int64(p.Utilization), Score: int64(p.Score) * plugins.MaxScore / maxCustomScore})
	}
	return shape, errs
}

func parseBalanced(raw []byte, s *plugins.Settings, path *field.Path) field.ErrorList {
	var args kubeschedulerv1.NodeResourcesBalancedAllocationArgs
	if err := decode(raw, &args, &args.TypeMeta, "NodeResourcesBalancedAllocationArgs", path); err != nil {
		return field.ErrorList{err}
	}
	if len(args.Resources) == 0 {
		return nil
	}
	resources, errs := parseResources(args.Resources, path.Child("resources"))
	seen := map[corev1.ResourceName]bool{}
	for i, r := range resources {
		if r.Weight != 1 {
			errs = append(errs, field.Invalid(path.Child("resources").Index(i).Child("weight"), r.Weight, "must be 1"))
		}
		if seen[r.Name] {
			errs = append(errs, field.Duplicate(path.Child("resources").Index(i).Child("name"), r.Name))
		}
		seen[r.Name] = true
	}
	s.BalancedResources = resources
	return errs
}
