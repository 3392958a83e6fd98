package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keelson-dev/keelson/cluster/internal/process"
)

const leftoverGrace = 10 * time.Second

// EndLeftovers ends children that a supervisor left behind, last in order first,
// and returns their names. order lists component names as they start; a component
// that is not in it ends first. executables are the base names of the programs.
func EndLeftovers(ctx context.Context, owner string, order, executables []string) ([]string, error) {
	found, err := process.Find(owner, executables)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b process.Found) int {
		return rank(order, a.Name) - rank(order, b.Name)
	})
	var names []string
	var errs []error
	for _, f := range found {
		if err := process.End(ctx, f.Identity, leftoverGrace); err != nil {
			errs = append(errs, fmt.Errorf("end %s (pid %d): %w", f.Name, f.PID, err))
			continue
		}
		names = append(names, f.Name)
	}
	return names, errors.Join(errs...)
}

// rank orders the latest started first, unknown names before all.
func rank(order []string, name string) int {
	i := slices.Index(order, name)
	if i < 0 {
		return -len(order) - 1
	}
	return -i
}
