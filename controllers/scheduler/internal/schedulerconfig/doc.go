// Package schedulerconfig reads upstream's KubeSchedulerConfiguration
// (kubescheduler.config.k8s.io/v1), as far as it is about placing Pods, and makes
// profiles of it. What it does not know, or what is said elsewhere here, it refuses by
// name; it never takes a field and ignores it.
//
// It only reads the file, once, when the manager starts.
package schedulerconfig

import (
	"time"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
)

// Config is the settings of the scheduler.
type Config struct {
	// InitialBackoff and MaxBackoff bound the time between two attempts for one Pod.
	InitialBackoff, MaxBackoff time.Duration
	// Profiles have different names.
	Profiles []Profile
}

// Profile is the settings for the Pods of one schedulerName.
type Profile struct {
	SchedulerName            string
	PercentageOfNodesToScore int
	// Filters are names in the order in which they are asked.
	Filters    []string
	Scores     []Weighted
	Preemption *plugins.Preemption
	Gates      bool
	Settings   plugins.Settings
}

// Weighted is the name of a score, and how much it counts.
type Weighted struct {
	Name   string
	Weight int64
}

const (
	defaultInitialBackoff = time.Second
	defaultMaxBackoff     = 10 * time.Second
)

// Default is upstream's configuration with one profile of that name; empty means
// default-scheduler.
func Default(schedulerName string) *Config {
	if schedulerName == "" {
		schedulerName = defaultSchedulerName
	}
	profile, err := newProfile(schedulerName, nil, nil)
	if err != nil {
		panic("the default configuration is wrong: " + err.Error()) // a mistake in this package, found by its tests
	}
	return &Config{InitialBackoff: defaultInitialBackoff, MaxBackoff: defaultMaxBackoff, Profiles: []Profile{*profile}}
}

// Build makes the plug-ins.
func (p *Profile) Build(workloads plugins.Workloads) (*plugins.Profile, error) {
	settings := p.Settings
	settings.Workloads = workloads
	built := &plugins.Profile{
		SchedulerName:            p.SchedulerName,
		PercentageOfNodesToScore: p.PercentageOfNodesToScore,
		Preemption:               p.Preemption,
		Gates:                    p.Gates,
	}
	for _, name := range p.Filters {
		filter, err := plugins.NewFilter(name, settings)
		if err != nil {
			return nil, err
		}
		built.Filters = append(built.Filters, filter)
	}
	for _, score := range p.Scores {
		plugin, err := plugins.NewScore(score.Name, settings)
		if err != nil {
			return nil, err
		}
		built.Scores = append(built.Scores, plugins.WeightedScore{Plugin: plugin, Weight: score.Weight})
	}
	return built, nil
}
