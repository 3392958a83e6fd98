package schedulerconfig

import (
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	componentbaseconfigv1alpha1 "k8s.io/component-base/config/v1alpha1"
	kubeschedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"
)

const (
	apiVersion           = "kubescheduler.config.k8s.io/v1"
	kind                 = "KubeSchedulerConfiguration"
	defaultSchedulerName = corev1.DefaultSchedulerName
)

// Load reads the file at path. The error names every mistake by its field.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the scheduler's configuration: %w", err)
	}
	config, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("scheduler configuration %s: %w", path, err)
	}
	return config, nil
}

// Parse reads a configuration in YAML or JSON.
func Parse(data []byte) (*Config, error) {
	var file kubeschedulerv1.KubeSchedulerConfiguration
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return nil, err
	}
	if file.APIVersion != apiVersion || file.Kind != kind {
		return nil, fmt.Errorf("apiVersion %q and kind %q must be %s and %s", file.APIVersion, file.Kind, apiVersion, kind)
	}
	config := &Config{InitialBackoff: defaultInitialBackoff, MaxBackoff: defaultMaxBackoff}
	errs := append(refuseForeign(&file), parseTimes(&file, config)...)
	profiles, profileErrs := parseProfiles(&file)
	if err := errors.Join(errs.ToAggregate(), profileErrs); err != nil {
		return nil, err
	}
	config.Profiles = profiles
	return config, nil
}

// refuseForeign names settings that have no meaning for a scheduler that is a part of
// the manager.
func refuseForeign(file *kubeschedulerv1.KubeSchedulerConfiguration) field.ErrorList {
	var errs field.ErrorList
	refuse := func(set bool, name, why string) {
		if set {
			errs = append(errs, field.Forbidden(field.NewPath(name), why))
		}
	}
	const ofManager = "the scheduler is a part of the manager: set it there"
	refuse(!equality.Semantic.DeepEqual(file.LeaderElection, componentbaseconfigv1alpha1.LeaderElectionConfiguration{}), "leaderElection", ofManager)
	refuse(!equality.Semantic.DeepEqual(file.ClientConnection, componentbaseconfigv1alpha1.ClientConnectionConfiguration{}), "clientConnection", ofManager)
	refuse(file.EnableProfiling != nil, "enableProfiling", ofManager)
	refuse(file.EnableContentionProfiling != nil, "enableContentionProfiling", ofManager)
	refuse(file.DelayCacheUntilActive, "delayCacheUntilActive", "the caches are those of the manager")
	refuse(file.Parallelism != nil, "parallelism", "one Pod is placed by one thread")
	refuse(len(file.Extenders) > 0, "extenders", "there are no extenders")
	return errs
}

func parseTimes(file *kubeschedulerv1.KubeSchedulerConfiguration, config *Config) field.ErrorList {
	var errs field.ErrorList
	if seconds := file.PodInitialBackoffSeconds; seconds != nil {
		if *seconds <= 0 {
			errs = append(errs, field.Invalid(field.NewPath("podInitialBackoffSeconds"), *seconds, "must be greater than 0"))
		}
		config.InitialBackoff = time.Duration(*seconds) * time.Second
	}
	if seconds := file.PodMaxBackoffSeconds; seconds != nil {
		config.MaxBackoff = time.Duration(*seconds) * time.Second
	}
	if config.MaxBackoff < config.InitialBackoff {
		errs = append(errs, field.Invalid(field.NewPath("podMaxBackoffSeconds"), int64(config.MaxBackoff/time.Second), "must be greater than or equal to PodInitialBackoffSeconds"))
	}
	return errs
}

func parseProfiles(file *kubeschedulerv1.KubeSchedulerConfiguration) ([]Profile, error) {
	all := file.Profiles
	if len(all) == 0 {
		all = []kubeschedulerv1.KubeSchedulerProfile{{}}
	}
	var profiles []Profile
	var errs []error
	path := field.NewPath("profiles")
	seen := map[string]bool{}
	for i := range all {
		name := defaultSchedulerName
		if all[i].SchedulerName != nil {
			name = *all[i].SchedulerName
		} else if len(all) > 1 {
			name = ""
		}
		switch {
		case name == "":
			errs = append(errs, field.Required(path.Index(i).Child("schedulerName"), "several profiles need names"))
		case seen[name]:
			errs = append(errs, field.Duplicate(path.Index(i).Child("schedulerName"), name))
		}
		seen[name] = true
		profile, err := newProfile(name, &all[i], path.Index(i))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		percentage, err := percentageOf(file, &all[i], path.Index(i))
		errs = append(errs, err)
		profile.PercentageOfNodesToScore = percentage
		profiles = append(profiles, *profile)
	}
	return profiles, errors.Join(errs...)
}

func percentageOf(file *kubeschedulerv1.KubeSchedulerConfiguration, profile *kubeschedulerv1.KubeSchedulerProfile, path *field.Path) (int, error) {
	set, at := profile.PercentageOfNodesToScore, path.Child("percentageOfNodesToScore")
	if set == nil {
		set, at = file.PercentageOfNodesToScore, field.NewPath("percentageOfNodesToScore")
	}
	if set == nil {
		return 0, nil
	}
	if *set < 0 || *set > 100 {
		return 0, field.Invalid(at, *set, "not in valid range [0-100]")
	}
	return int(*set), nil
}
