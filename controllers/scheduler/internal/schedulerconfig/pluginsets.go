package schedulerconfig

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	kubeschedulerv1 "k8s.io/kube-scheduler/config/v1"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
)

const everything = "*"

// newProfile reads one profile; path and from are nil for the default.
func newProfile(name string, from *kubeschedulerv1.KubeSchedulerProfile, path *field.Path) (*Profile, error) {
	profile := &Profile{SchedulerName: name, Settings: plugins.DefaultSettings()}
	var configured kubeschedulerv1.Plugins
	var args []kubeschedulerv1.PluginConfig
	if from != nil {
		args = from.PluginConfig
		if from.Plugins != nil {
			configured = *from.Plugins
		}
	}
	sets := path.Child("plugins")
	errs := append(checkNames(&configured, sets), refusePoints(&configured, sets)...)
	preemption, argErrs := parseArgs(args, &profile.Settings, path.Child("pluginConfig"))
	errs = append(errs, argErrs...)
	if len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	multi := mergeMultiPoint(configured.MultiPoint)
	for _, p := range expand(multi, configured.Filter, filters) {
		profile.Filters = append(profile.Filters, p.Name)
	}
	profile.Scores = expand(multi, configured.Score, scores)
	if contains(expand(multi, configured.PostFilter, named(plugins.NameDefaultPreemption)), plugins.NameDefaultPreemption) {
		profile.Preemption = preemption
	}
	profile.Gates = contains(expand(multi, configured.PreEnqueue, named(plugins.NameSchedulingGates)), plugins.NameSchedulingGates)
	if !contains(expand(multi, configured.QueueSort, named(plugins.NamePrioritySort)), plugins.NamePrioritySort) {
		errs = append(errs, field.Required(sets.Child("queueSort"), plugins.NamePrioritySort+" is the only order of the queue"))
	}
	if !contains(expand(multi, configured.Bind, named(plugins.NameDefaultBinder)), plugins.NameDefaultBinder) {
		errs = append(errs, field.Required(sets.Child("bind"), "without "+plugins.NameDefaultBinder+" nothing binds Pods"))
	}
	return profile, errs.ToAggregate()
}

// point is one extension point that may be configured: its name, its set, and the
// plug-ins that work there.
type point struct {
	name  string
	set   kubeschedulerv1.PluginSet
	works func(plugins.Kind) bool
}

func filters(k plugins.Kind) bool { return k.Filters }
func scores(k plugins.Kind) bool  { return k.Scores }

func named(name string) func(plugins.Kind) bool {
	return func(k plugins.Kind) bool { return k.Name == name }
}

func points(p *kubeschedulerv1.Plugins) []point {
	return []point{
		{"multiPoint", p.MultiPoint, func(plugins.Kind) bool { return true }},
		{"filter", p.Filter, filters},
		{"score", p.Score, scores},
		{"postFilter", p.PostFilter, named(plugins.NameDefaultPreemption)},
		{"preEnqueue", p.PreEnqueue, named(plugins.NameSchedulingGates)},
		{"queueSort", p.QueueSort, named(plugins.NamePrioritySort)},
		{"bind", p.Bind, named(plugins.NameDefaultBinder)},
	}
}

// checkNames refuses plug-ins that do not exist or do not work where they are named.
func checkNames(configured *kubeschedulerv1.Plugins, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	known := kindNames()
	for _, point := range points(configured) {
		at := path.Child(point.name)
		for i, plugin := range point.set.Enabled {
			errs = append(errs, checkEnabled(plugin, point, known, at.Child("enabled").Index(i))...)
			if slices.ContainsFunc(point.set.Enabled[:i], func(p kubeschedulerv1.Plugin) bool { return p.Name == plugin.Name }) {
				errs = append(errs, field.Duplicate(at.Child("enabled").Index(i).Child("name"), plugin.Name))
			}
		}
		for i, plugin := range point.set.Disabled {
			if plugin.Name != everything && !slices.Contains(known, plugin.Name) {
				errs = append(errs, field.NotSupported(at.Child("disabled").Index(i).Child("name"), plugin.Name, append(known, everything)))
			}
		}
	}
	return errs
}

func checkEnabled(plugin kubeschedulerv1.Plugin, point point, known []string, path *field.Path) field.ErrorList {
	at := slices.IndexFunc(plugins.Kinds(), func(k plugins.Kind) bool { return k.Name == plugin.Name })
	switch {
	case at < 0:
		return field.ErrorList{field.NotSupported(path.Child("name"), plugin.Name, known)}
	case !point.works(plugins.Kinds()[at]):
		return field.ErrorList{field.Invalid(path.Child("name"), plugin.Name, fmt.Sprintf("plugin %q does not extend %s plugin", plugin.Name, point.name))}
	case plugin.Weight != nil && *plugin.Weight < 0:
		return field.ErrorList{field.Invalid(path.Child("weight"), *plugin.Weight, "must not be negative; disable the plug-in instead")}
	case plugin.Weight != nil && *plugin.Weight != 0 && !plugins.Kinds()[at].Scores:
		return field.ErrorList{field.Invalid(path.Child("weight"), *plugin.Weight, fmt.Sprintf("plugin %q does not score", plugin.Name))}
	}
	return nil
}

func kindNames() []string {
	var names []string
	for _, k := range plugins.Kinds() {
		names = append(names, k.Name)
	}
	return names
}

// refusePoints names extension points that cannot be configured on their own.
func refusePoints(p *kubeschedulerv1.Plugins, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, set := range map[string]kubeschedulerv1.PluginSet{
		"preFilter": p.PreFilter, "preScore": p.PreScore, "reserve": p.Reserve, "permit": p.Permit,
		"preBind": p.PreBind, "postBind": p.PostBind, "placementGenerate": p.PlacementGenerate,
		"placementScore": p.PlacementScore, "podGroupPostFilter": p.PodGroupPostFilter,
	} {
		if len(set.Enabled)+len(set.Disabled) == 0 {
			continue
		}
		why := "no plug-in works there"
		if strings.HasPrefix(name, "pre") && name != "preBind" {
			why = "preparing is a part of filter and score: configure those"
		}
		errs = append(errs, field.Forbidden(path.Child(name), why))
	}
	slices.SortFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	return errs
}

// mergeMultiPoint puts what is configured for all points over the default: disabled
// plug-ins leave, enabled ones replace the default in its place or come last.
func mergeMultiPoint(configured kubeschedulerv1.PluginSet) []Weighted {
	var merged []Weighted
	placed := map[string]bool{}
	for _, k := range plugins.Kinds() {
		if disables(configured, k.Name) {
			continue
		}
		w := Weighted{Name: k.Name, Weight: k.Weight}
		if at := slices.IndexFunc(configured.Enabled, func(p kubeschedulerv1.Plugin) bool { return p.Name == k.Name }); at >= 0 {
			w.Weight = weightOf(configured.Enabled[at])
			placed[k.Name] = true
		}
		merged = append(merged, w)
	}
	for _, plugin := range configured.Enabled {
		if !placed[plugin.Name] {
			merged = append(merged, Weighted{plugin.Name, weightOf(plugin)})
		}
	}
	return merged
}

// expand is the plug-ins of one point: first those of multi that the point configures
// again, then the others of multi, then the point's own.
func expand(multi []Weighted, configured kubeschedulerv1.PluginSet, works func(plugins.Kind) bool) []Weighted {
	var again, own []Weighted
	for _, plugin := range configured.Enabled {
		w := Weighted{plugin.Name, weightOf(plugin)}
		if contains(multi, plugin.Name) {
			again = append(again, w)
		} else {
			own = append(own, w)
		}
	}
	all := again
	for _, w := range multi {
		at := slices.IndexFunc(plugins.Kinds(), func(k plugins.Kind) bool { return k.Name == w.Name })
		if works(plugins.Kinds()[at]) && !disables(configured, w.Name) && !contains(again, w.Name) {
			all = append(all, w)
		}
	}
	return append(all, own...)
}

func disables(set kubeschedulerv1.PluginSet, name string) bool {
	return slices.ContainsFunc(set.Disabled, func(p kubeschedulerv1.Plugin) bool { return p.Name == everything || p.Name == name })
}

func contains(all []Weighted, name string) bool {
	return slices.ContainsFunc(all, func(w Weighted) bool { return w.Name == name })
}

// weightOf is 1 for a plug-in that is enabled without a weight, as upstream.
func weightOf(plugin kubeschedulerv1.Plugin) int64 {
	if plugin.Weight == nil || *plugin.Weight == 0 {
		return 1
	}
	return int64(*plugin.Weight)
}
