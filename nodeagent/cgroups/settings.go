package cgroups

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

const (
	// Unlimited lifts a limit that is set.
	Unlimited = -1
	// unlimitedV2 is what cgroup v2, and pids.max of both, call no limit.
	unlimitedV2 = "max"
)

// Settings are what one cgroup is given; what is nil stays as it is. Limits bind all
// that is below the cgroup together.
type Settings struct {
	// CPUShares is the weight against other cgroups of the same parent, in cgroup v1
	// units (2 to 262144).
	CPUShares *uint64
	// CPUQuota is the microseconds of CPU time in each CPUPeriod microseconds.
	CPUQuota  *int64
	CPUPeriod uint64
	// Memory is in bytes, PIDs counts processes and threads.
	Memory, PIDs *int64
	// HugePages limits bytes by the kernel's name of the page size, such as 2MB.
	HugePages map[string]int64
}

// setting is one file to write. Controller names the hierarchy on cgroup v1.
type setting struct{ Controller, File, Value string }

func (s setting) unlimited() bool { return s.Value == unlimitedV2 || strings.HasPrefix(s.Value, "-") }

// files lists what to write for s, in order.
func (s Settings) files(v2 bool) []setting {
	if v2 {
		return s.filesV2()
	}
	var out []setting
	if s.CPUShares != nil {
		out = append(out, setting{"cpu", "cpu.shares", strconv.FormatUint(*s.CPUShares, 10)})
	}
	if s.CPUQuota != nil {
		out = append(out, setting{"cpu", "cpu.cfs_period_us", strconv.FormatUint(s.CPUPeriod, 10)},
			setting{"cpu", "cpu.cfs_quota_us", strconv.FormatInt(*s.CPUQuota, 10)})
	}
	if s.Memory != nil {
		out = append(out, setting{"memory", "memory.limit_in_bytes", strconv.FormatInt(*s.Memory, 10)})
	}
	if s.PIDs != nil {
		out = append(out, setting{"pids", "pids.max", limitText(*s.PIDs)})
	}
	for _, size := range slices.Sorted(maps.Keys(s.HugePages)) {
		out = append(out, setting{"hugetlb", "hugetlb." + size + ".limit_in_bytes", strconv.FormatInt(s.HugePages[size], 10)})
	}
	return out
}

func (s Settings) filesV2() []setting {
	var out []setting
	if s.CPUShares != nil {
		out = append(out, setting{"cpu", "cpu.weight", strconv.FormatUint(weight(*s.CPUShares), 10)})
	}
	if s.CPUQuota != nil {
		out = append(out, setting{"cpu", "cpu.max", limitText(*s.CPUQuota) + " " + strconv.FormatUint(s.CPUPeriod, 10)})
	}
	if s.Memory != nil {
		out = append(out, setting{"memory", "memory.max", limitText(*s.Memory)})
	}
	if s.PIDs != nil {
		out = append(out, setting{"pids", "pids.max", limitText(*s.PIDs)})
	}
	for _, size := range slices.Sorted(maps.Keys(s.HugePages)) {
		out = append(out, setting{"hugetlb", "hugetlb." + size + ".max", limitText(s.HugePages[size])})
	}
	return out
}

func limitText(limit int64) string {
	if limit < 0 {
		return unlimitedV2
	}
	return strconv.FormatInt(limit, 10)
}

// weight converts shares (2 to 262144) to a v2 weight (1 to 10000), as runc does.
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

const (
	maxShares    = 262144
	sharesPerCPU = 1024
	milliPerCPU  = 1000
)

// Shares is the weight of who asked for that many thousandths of a CPU.
func Shares(milli int64) uint64 {
	return uint64(min(max(milli*sharesPerCPU/milliPerCPU, minShares), maxShares))
}

// Grow is what s has to become before anything below it may be given what next allows:
// each setting is the greater of the two.
func (s Settings) Grow(next Settings) Settings {
	grown := Settings{
		CPUShares: greater(s.CPUShares, next.CPUShares), CPUPeriod: next.CPUPeriod,
		CPUQuota: greaterLimit(s.CPUQuota, next.CPUQuota), Memory: greaterLimit(s.Memory, next.Memory),
		PIDs: greaterLimit(s.PIDs, next.PIDs), HugePages: maps.Clone(next.HugePages),
	}
	for size, limit := range s.HugePages {
		grown.HugePages[size] = max(limit, grown.HugePages[size])
	}
	return grown
}

func greater(a, b *uint64) *uint64 {
	if a == nil || b != nil && *b > *a {
		return b
	}
	return a
}

// greaterLimit takes Unlimited for the greatest.
func greaterLimit(a, b *int64) *int64 {
	switch {
	case a == nil || b != nil && *b == Unlimited:
		return b
	case b == nil || *a == Unlimited || *a > *b:
		return a
	}
	return b
}

// Equal says that two Settings set the same.
func (s Settings) Equal(other Settings) bool {
	return slices.Equal(s.files(true), other.files(true)) && slices.Equal(s.files(false), other.files(false))
}
