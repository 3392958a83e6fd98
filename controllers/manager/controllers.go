package manager

import (
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/keelson-dev/keelson/controllers/scheduler"
)

// controller is one line of the list below.
type controller struct {
	// name is what --controllers calls it.
	name string
	// hygiene marks what a stock controller manager does too: off in guest mode.
	hygiene bool
	add     func(ctrl.Manager, Options) error
}

// controllers is everything that the manager runs.
func controllers() []controller {
	return []controller{
		{name: "scheduler", add: func(mgr ctrl.Manager, o Options) error {
			return scheduler.Add(mgr, scheduler.Options{SchedulerName: o.SchedulerName})
		}},
	}
}

func names() []string {
	var all []string
	for _, c := range controllers() {
		all = append(all, c.name)
	}
	return all
}

func hygieneNames() []string {
	var hygiene []string
	for _, c := range controllers() {
		if c.hygiene {
			hygiene = append(hygiene, c.name)
		}
	}
	return hygiene
}
