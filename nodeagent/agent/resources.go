package agent

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/node"
)

// hugePagesFolder is where the kernel tells of its large pages.
const hugePagesFolder = "/sys/kernel/mm/hugepages"

// enforcePods is the value of --enforce-node-allocatable that holds all Pods together to
// what the node gives them; enforceNone lets them take what there is.
const (
	enforcePods = "pods"
	enforceNone = "none"
)

// reservable are the resources that can be kept from Pods.
var reservable = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, node.ResourcePIDs}

// validateResources says what is wrong with reservations, limits and cgroups.
func (o *Options) validateResources() []error {
	var problems []error
	if err := (cgroups.Layout{Root: o.CgroupRoot}).Validate(); err != nil {
		problems = append(problems, fmt.Errorf("--cgroup-root: %w", err))
	}
	for flag, text := range map[string]map[string]string{"kube-reserved": o.KubeReserved, "system-reserved": o.SystemReserved} {
		if _, err := parseReserved(text); err != nil {
			problems = append(problems, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	for _, what := range o.EnforceNodeAllocatable {
		if what != enforcePods && what != enforceNone {
			problems = append(problems, fmt.Errorf("--enforce-node-allocatable: %q is not served: use pods, or none", what))
		}
	}
	if len(o.EnforceNodeAllocatable) > 1 && slices.Contains(o.EnforceNodeAllocatable, enforceNone) {
		problems = append(problems, errors.New("--enforce-node-allocatable: none goes with nothing else"))
	}
	return problems
}

func parseReserved(text map[string]string) (corev1.ResourceList, error) {
	list := corev1.ResourceList{}
	for name, amount := range text {
		if !slices.Contains(reservable, corev1.ResourceName(name)) {
			return nil, fmt.Errorf("cannot reserve %q resource: only cpu, memory, ephemeral-storage and pid can be reserved", name)
		}
		quantity, err := resource.ParseQuantity(amount)
		if err != nil {
			return nil, fmt.Errorf("failed to parse quantity %q for %q resource: %w", amount, name, err)
		}
		if quantity.Sign() < 0 {
			return nil, fmt.Errorf("resource quantity for %q cannot be negative: %v", name, amount)
		}
		list[corev1.ResourceName(name)] = quantity
	}
	return list, nil
}

// reserved is what --kube-reserved and --system-reserved keep from Pods together.
func (o *Options) reserved() (corev1.ResourceList, error) {
	sum := corev1.ResourceList{}
	for _, text := range []map[string]string{o.KubeReserved, o.SystemReserved} {
		list, err := parseReserved(text)
		if err != nil {
			return nil, err
		}
		for name, quantity := range list {
			total := sum[name]
			total.Add(quantity)
			sum[name] = total
		}
	}
	return sum, nil
}

// rootSettings are those of the cgroup of all Pods: a weight of the CPUs that the node
// gives, and, where the node's owner wants it, the end of what they may take together.
// Evictions come before it: what they keep free is not taken off.
func (o *Options) rootSettings(facts node.Facts, sizes []int64) cgroups.Settings {
	list := node.Capacity(facts)
	enforce := slices.Contains(o.EnforceNodeAllocatable, enforcePods)
	if enforce {
		list = node.Without(list, facts.Reserved)
	}
	s := cgroups.Settings{
		CPUShares: new(cgroups.Shares(list.Cpu().MilliValue())),
		Memory:    new(int64(cgroups.Unlimited)), PIDs: new(int64(cgroups.Unlimited)),
	}
	if !enforce {
		return s
	}
	*s.Memory = list.Memory().Value()
	if reserved, ok := facts.Reserved[node.ResourcePIDs]; ok && facts.Machine.PIDs > 0 {
		*s.PIDs = max(facts.Machine.PIDs-reserved.Value(), 1)
	}
	for _, size := range sizes {
		if s.HugePages == nil {
			s.HugePages = map[string]int64{}
		}
		pages := list[cgroups.HugePageResource(size)]
		s.HugePages[cgroups.HugePageName(size)] = pages.Value()
	}
	return s
}
