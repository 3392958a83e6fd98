package plugins

import (
	corev1 "k8s.io/api/core/v1"
)

// Kind is what is known of a plug-in before any is made.
type Kind struct {
	Name string
	// Filters and Scores say what it can do; Weight is how much its score counts unless
	// the configuration says otherwise.
	Filters, Scores bool
	Weight          int64
}

// Kinds are all plug-ins in the order in which they work.
func Kinds() []Kind {
	return []Kind{
		{Name: NameSchedulingGates},
		{Name: NamePrioritySort},
		{Name: NameNodeName, Filters: true},
		{Name: NameNodeUnschedulable, Filters: true},
		{Name: NameTaintToleration, Filters: true, Scores: true, Weight: 3},
		{Name: NameNodeAffinity, Filters: true, Scores: true, Weight: 2},
		{Name: NameNodePorts, Filters: true},
		{Name: NameNodeResourcesFit, Filters: true, Scores: true, Weight: 1},
		{Name: NamePodTopologySpread, Filters: true, Scores: true, Weight: 2},
		{Name: NameInterPodAffinity, Filters: true, Scores: true, Weight: 2},
		{Name: NameDefaultPreemption},
		{Name: NameBalancedAllocation, Scores: true, Weight: 1},
		{Name: NameImageLocality, Scores: true, Weight: 1},
		{Name: NameDefaultBinder},
	}
}

// Resource is one that counts in a score, and how much.
type Resource struct {
	Name   corev1.ResourceName
	Weight int64
}

// Strategy is how NodeResourcesFit scores.
type Strategy string

// The strategies.
const (
	LeastAllocated           Strategy = "LeastAllocated"
	MostAllocated            Strategy = "MostAllocated"
	RequestedToCapacityRatio Strategy = "RequestedToCapacityRatio"
)

// Point is a corner of the line of RequestedToCapacityRatio: percent in use, and the
// score for it, 0 to MaxScore.
type Point struct{ Utilization, Score int64 }

// Settings are what plug-ins can be told; they have been validated.
type Settings struct {
	// IgnoredResources and IgnoredResourceGroups are extended resources that
	// NodeResourcesFit does not look at.
	IgnoredResources, IgnoredResourceGroups []string
	Strategy                                Strategy
	FitResources                            []Resource
	// Shape is for RequestedToCapacityRatio, by rising use.
	Shape []Point

	BalancedResources []Resource

	// AddedAffinity restricts and ranks Nodes for every Pod; nil for none.
	AddedAffinity *corev1.NodeAffinity

	HardPodAffinityWeight              int64
	IgnorePreferredTermsOfExistingPods bool

	// DefaultConstraints spread Pods that say nothing; SystemDefaults takes upstream's
	// instead.
	DefaultConstraints []corev1.TopologySpreadConstraint
	SystemDefaults     bool
	// Workloads finds what default constraints spread by.
	Workloads Workloads
}

// DefaultSettings are upstream's.
func DefaultSettings() Settings {
	return Settings{
		Strategy:              LeastAllocated,
		FitResources:          defaultResources(),
		BalancedResources:     defaultResources(),
		HardPodAffinityWeight: 1,
		SystemDefaults:        true,
	}
}

func defaultResources() []Resource {
	return []Resource{{corev1.ResourceCPU, 1}, {corev1.ResourceMemory, 1}}
}

// NewFilter makes the filter of that name; nil when there is none.
func NewFilter(name string, s Settings) (Filter, error) {
	switch name {
	case NameNodeName:
		return newNodeName(), nil
	case NameNodeUnschedulable:
		return nodeUnschedulable{}, nil
	case NameTaintToleration:
		return taintToleration{}, nil
	case NameNodeAffinity:
		return newNodeAffinity(s.AddedAffinity)
	case NameNodePorts:
		return nodePorts{}, nil
	case NameNodeResourcesFit:
		return newFit(s), nil
	case NamePodTopologySpread:
		return newSpread(s), nil
	case NameInterPodAffinity:
		return newInterPodAffinity(s), nil
	}
	return nil, nil
}

// NewScore makes the score of that name; nil when there is none.
func NewScore(name string, s Settings) (Score, error) {
	switch name {
	case NameTaintToleration:
		return taintToleration{}, nil
	case NameNodeAffinity:
		return newNodeAffinity(s.AddedAffinity)
	case NameNodeResourcesFit:
		return newFit(s), nil
	case NamePodTopologySpread:
		return newSpread(s), nil
	case NameInterPodAffinity:
		return newInterPodAffinity(s), nil
	case NameBalancedAllocation:
		return &balancedAllocation{resources: toWeighted(s.BalancedResources)}, nil
	case NameImageLocality:
		return imageLocality{}, nil
	}
	return nil, nil
}

func newFit(s Settings) *fit {
	p := &fit{ignored: set(s.IgnoredResources), ignoredGroups: set(s.IgnoredResourceGroups), resources: toWeighted(s.FitResources)}
	switch s.Strategy {
	case MostAllocated:
		p.strategy = mostAllocated
	case RequestedToCapacityRatio:
		line := make([]point, 0, len(s.Shape))
		for _, corner := range s.Shape {
			line = append(line, point{corner.Utilization, corner.Score})
		}
		p.strategy = requestedToCapacityRatio(line)
	default:
		p.strategy = leastAllocated
	}
	return p
}

func newInterPodAffinity(s Settings) *interPodAffinity {
	return &interPodAffinity{hardWeight: s.HardPodAffinityWeight, ignoreExisting: s.IgnorePreferredTermsOfExistingPods}
}

func newSpread(s Settings) *podTopologySpread {
	p := &podTopologySpread{defaults: s.DefaultConstraints, systemDefaults: s.SystemDefaults, workloads: s.Workloads}
	if s.SystemDefaults {
		p.defaults = systemConstraints()
	}
	return p
}

func toWeighted(resources []Resource) []weighted {
	all := make([]weighted, 0, len(resources))
	for _, r := range resources {
		all = append(all, weighted{r.Name, r.Weight})
	}
	return all
}

func set(names []string) map[string]bool {
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[name] = true
	}
	return all
}
