package eviction

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is something that may run short.
type Signal string

// The signals, with upstream's names (pkg/kubelet/eviction/api).
const (
	MemoryAvailable            Signal = "memory.available"
	AllocatableMemoryAvailable Signal = "allocatableMemory.available"
	NodeFsAvailable            Signal = "nodefs.available"
	NodeFsInodesFree           Signal = "nodefs.inodesFree"
	ImageFsAvailable           Signal = "imagefs.available"
	ImageFsInodesFree          Signal = "imagefs.inodesFree"
	PIDAvailable               Signal = "pid.available"
)

// Resources that are counted only here.
const (
	resourceInodes corev1.ResourceName = "inodes"
	resourcePids   corev1.ResourceName = "pids"
)

// resourceOf is what runs short; empty for a signal that is not known.
func resourceOf(s Signal) corev1.ResourceName {
	switch s {
	case MemoryAvailable, AllocatableMemoryAvailable:
		return corev1.ResourceMemory
	case NodeFsAvailable, ImageFsAvailable:
		return corev1.ResourceEphemeralStorage
	case NodeFsInodesFree, ImageFsInodesFree:
		return resourceInodes
	case PIDAvailable:
		return resourcePids
	default:
		return ""
	}
}

// conditionOf is the Node's condition that tells of it.
func conditionOf(s Signal) corev1.NodeConditionType {
	switch resourceOf(s) {
	case corev1.ResourceMemory:
		return corev1.NodeMemoryPressure
	case resourcePids:
		return corev1.NodePIDPressure
	default:
		return corev1.NodeDiskPressure
	}
}

// Value is an amount, or a share of the capacity.
type Value struct {
	// Quantity is nil for a share.
	Quantity *resource.Quantity
	// Share is between 0 and 1.
	Share float64
}

// of is the amount when the capacity is known.
func (v Value) of(capacity int64) int64 {
	if v.Quantity != nil {
		return v.Quantity.Value()
	}
	return int64(float64(capacity) * v.Share)
}

// Threshold says below which amount something is short.
type Threshold struct {
	Signal Signal
	Value  Value
	// Grace is how long it must be short before Pods are ended; 0 means that they get no
	// time to stop either.
	Grace time.Duration
	// MinReclaim is how much more than Value has to be free before the shortage is over.
	MinReclaim Value
}

// hard thresholds act at once.
func (t Threshold) hard() bool { return t.Grace == 0 }

// key tells thresholds apart: a signal has one hard and one soft one at most.
func (t Threshold) key() thresholdKey { return thresholdKey{t.Signal, t.Grace} }

type thresholdKey struct {
	signal Signal
	grace  time.Duration
}

// Settings are thresholds as flags give them, by signal.
type Settings struct {
	Hard, Soft, SoftGracePeriod, MinimumReclaim map[string]string
}

// DefaultHard are upstream's hard thresholds.
func DefaultHard() map[string]string {
	return map[string]string{
		string(MemoryAvailable): "100Mi", string(NodeFsAvailable): "10%", string(NodeFsInodesFree): "5%",
		string(ImageFsAvailable): "15%", string(ImageFsInodesFree): "5%",
	}
}

// Parse returns the thresholds, sorted by signal, hard ones first, or every problem at
// once; each names the flag.
func Parse(s Settings) ([]Threshold, error) {
	var errs []error
	hard := parseThresholds("eviction-hard", s.Hard, &errs)
	soft := parseThresholds("eviction-soft", s.Soft, &errs)
	graces := parseGraces(s.SoftGracePeriod, &errs)
	for i := range soft {
		grace, ok := graces[soft[i].Signal]
		if !ok {
			errs = append(errs, fmt.Errorf("--eviction-soft-grace-period: grace period must be specified for the soft eviction threshold %v", soft[i].Signal))
		}
		soft[i].Grace = grace
	}
	all := slices.Concat(hard, soft)
	for signal, text := range sorted(s.MinimumReclaim) {
		reclaim, err := parseReclaim(signal, text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--eviction-minimum-reclaim: %w", err))
		}
		for i := range all {
			if all[i].Signal == signal {
				all[i].MinReclaim = reclaim
			}
		}
	}
	return all, errors.Join(errs...)
}

// sorted goes through settings in a fixed order.
func sorted(settings map[string]string) func(yield func(Signal, string) bool) {
	return func(yield func(Signal, string) bool) {
		for _, name := range slices.Sorted(maps.Keys(settings)) {
			if !yield(Signal(name), settings[name]) {
				return
			}
		}
	}
}

func parseThresholds(flag string, settings map[string]string, errs *[]error) []Threshold {
	var thresholds []Threshold
	for signal, text := range sorted(settings) {
		if text == "0%" || text == "100%" {
			continue // as upstream: off
		}
		value, err := parseThreshold(signal, text)
		if err != nil {
			*errs = append(*errs, fmt.Errorf("--%s: %w", flag, err))
			continue
		}
		thresholds = append(thresholds, Threshold{Signal: signal, Value: value})
	}
	return thresholds
}

func checkSignal(s Signal) error {
	if resourceOf(s) == "" {
		return fmt.Errorf("unsupported eviction signal %v", s)
	}
	return nil
}

func parseThreshold(signal Signal, text string) (Value, error) {
	if err := checkSignal(signal); err != nil {
		return Value{}, err
	}
	value, err := parseValue(text)
	switch {
	case err != nil:
		return Value{}, fmt.Errorf("%s: %w", signal, err)
	case value.Quantity == nil && value.Share < 0:
		return Value{}, fmt.Errorf("eviction percentage threshold %v must be >= 0%%: %s", signal, text)
	case value.Quantity == nil && value.Share > 1:
		return Value{}, fmt.Errorf("eviction percentage threshold %v must be <= 100%%: %s", signal, text)
	case value.Quantity != nil && value.Quantity.Sign() <= 0:
		return Value{}, fmt.Errorf("eviction threshold %v must be positive: %s", signal, text)
	}
	return value, nil
}

func parseReclaim(signal Signal, text string) (Value, error) {
	if err := checkSignal(signal); err != nil {
		return Value{}, err
	}
	value, err := parseValue(text)
	switch {
	case err != nil:
		return Value{}, fmt.Errorf("%s: %w", signal, err)
	case value.Quantity == nil && value.Share <= 0:
		return Value{}, fmt.Errorf("eviction percentage minimum reclaim %v must be positive: %s", signal, text)
	case value.Quantity != nil && value.Quantity.Sign() < 0:
		return Value{}, fmt.Errorf("negative eviction minimum reclaim specified for %v", signal)
	}
	return value, nil
}

func parseValue(text string) (Value, error) {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		share, err := strconv.ParseFloat(percent, 32)
		if err != nil {
			return Value{}, fmt.Errorf("%q is no percentage", text)
		}
		return Value{Share: share / 100}, nil
	}
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return Value{}, fmt.Errorf("%q is neither an amount, such as 100Mi, nor a percentage: %w", text, err)
	}
	return Value{Quantity: &quantity}, nil
}

func parseGraces(settings map[string]string, errs *[]error) map[Signal]time.Duration {
	graces := map[Signal]time.Duration{}
	for signal, text := range sorted(settings) {
		grace, err := time.ParseDuration(text)
		switch {
		case checkSignal(signal) != nil:
			err = checkSignal(signal)
		case err == nil && grace < 0:
			err = fmt.Errorf("invalid eviction grace period specified: %v, must be a positive value", text)
		}
		if err != nil {
			*errs = append(*errs, fmt.Errorf("--eviction-soft-grace-period: %w", err))
			continue
		}
		graces[signal] = grace
	}
	return graces
}

// HardMemory is the hard threshold of memory for a machine of this capacity, in bytes:
// Pods cannot have it. It is 0 without one.
func HardMemory(thresholds []Threshold, capacity int64) int64 {
	return hardAmount(thresholds, MemoryAvailable, capacity)
}

// HardNodeFs is the same for the file system of the node.
func HardNodeFs(thresholds []Threshold, capacity int64) int64 {
	return hardAmount(thresholds, NodeFsAvailable, capacity)
}

func hardAmount(thresholds []Threshold, signal Signal, capacity int64) int64 {
	for _, t := range thresholds {
		if t.Signal == signal && t.hard() {
			return t.Value.of(capacity)
		}
	}
	return 0
}
