package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/render"
)

// recentLists is where the kernel shows the lists of its match "recent", in each network
// by itself, once that match is loaded.
const recentLists = "/proc/thread-self/net/xt_recent"

// nameServers returns those of the family, none when the kernel cannot take note of
// refusals. Where that could not be found out, the next sync asks again.
func (s *syncer) nameServers(ctx context.Context, all []netip.Addr) []netip.Addr {
	own := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return !s.family.Of(a) })
	if len(own) == 0 {
		return nil
	}
	if s.notes == nil {
		can, err := notesRefusals(ctx, s.family, s.executor, s.lists)
		if err != nil {
			klog.FromContext(ctx).Error(err, "Failed to find out whether the kernel can take note of refusals, will try again", "family", s.family.String())
			return nil
		}
		s.notes = &can
	}
	if !*s.notes {
		return nil
	}
	return own
}

// notesRefusals reports whether the kernel can take note of endpoints that refuse. Not
// every kernel can, and one that cannot would take no rule at all. It asks by a rule only
// when it has to, so that a proxy that starts again writes nothing.
func notesRefusals(ctx context.Context, family model.Family, executor iptables.Executor, lists string) (bool, error) {
	if _, err := os.Stat(lists); err == nil {
		return true, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("asking whether the kernel has lists of refusals: %w", err)
	}
	noting, plain := render.RefusalProbe(family)
	refused := iptables.Try(ctx, executor, iptables.Filter, noting)
	if refused == nil {
		return true, nil
	}
	if err := iptables.Try(ctx, executor, iptables.Filter, plain); err != nil {
		return false, errors.Join(refused, err) // says nothing of lists
	}
	klog.FromContext(ctx).Info("The kernel cannot take note of refusals (xt_recent): names may not be found in the moment in which a DNS server dies",
		"family", family.String(), "err", refused)
	return false, nil
}
