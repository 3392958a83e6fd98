package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/addrpool"
)

// Reasons of the condition.
const (
	ReasonAllocated     = "Allocated"
	ReasonPoolExhausted = "PoolExhausted"
	ReasonNoFamily      = "IPFamilyNotInPool"
	ReasonTaken         = "AddressTaken"
	ReasonNotInPool     = "AddressNotInPool"
	ReasonInvalidWish   = "InvalidAddress"
)

// problem is why a Service lacks an address, or has another one than it wishes for.
type problem struct{ reason, text string }

// plan is what one Service gets.
type plan struct {
	// addresses are in the order of spec.ipFamilies.
	addresses []netip.Addr
	problem   *problem
	// losers have an address that this Service keeps.
	losers []types.NamespacedName
}

// makePlan decides on the addresses of l.self. The same input leads to the same plan;
// what the Service has it keeps while it may.
func makePlan(l *ledger, pool addrpool.Pool) plan {
	p := plan{}
	wishes, wrong := wishesOf(l.self)
	if wrong != nil {
		p.problem = &problem{ReasonInvalidWish, wrong.Error()}
	}
	required := l.self.Spec.IPFamilyPolicy != nil && *l.self.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack
	for i, family := range l.self.Spec.IPFamilies {
		is4 := family == corev1.IPv4Protocol
		at := slices.IndexFunc(wishes, func(wish netip.Addr) bool { return wish.Is4() == is4 })
		switch {
		case at >= 0 && p.grant(l, pool, wishes[at]):
		case p.keep(l, pool, is4):
		case at >= 0 || wrong != nil: // another address than the wished one is of no use
		case !pool.HasFamily(is4):
			if i == 0 || required {
				p.fail(ReasonNoFamily, "the pool %s has no addresses of %s", pool, family)
			}
		default:
			p.draw(l, pool, is4)
		}
	}
	return p
}

func (p *plan) fail(reason, format string, args ...any) {
	if p.problem == nil {
		p.problem = &problem{reason, fmt.Sprintf(format, args...)}
	}
}

// grant gives the wished address, or says why not.
func (p *plan) grant(l *ledger, pool addrpool.Pool, wish netip.Addr) bool {
	if !pool.Contains(wish) {
		p.fail(ReasonNotInPool, "%s is not in the pool %s", wish, pool)
		return false
	}
	if slices.Contains(heldBy(l.self), wish) {
		if losers, ok := l.keeps(wish); ok {
			p.losers = append(p.losers, losers...)
			p.addresses = append(p.addresses, wish)
			return true
		}
	}
	if other := l.takenBy(wish); other != "" {
		p.fail(ReasonTaken, "%s is that of %s", wish, other)
		return false
	}
	p.addresses = append(p.addresses, wish)
	return true
}

// keep leaves the Service what it has of a family: an address of the pool that no older
// Service has.
func (p *plan) keep(l *ledger, pool addrpool.Pool, is4 bool) bool {
	for _, addr := range heldBy(l.self) {
		if addr.Is4() != is4 || !pool.Contains(addr) {
			continue
		}
		if losers, ok := l.keeps(addr); ok {
			p.losers = append(p.losers, losers...)
			p.addresses = append(p.addresses, addr)
			return true
		}
	}
	return false
}

// draw gives the lowest address that nobody has.
func (p *plan) draw(l *ledger, pool addrpool.Pool, is4 bool) {
	for addr := range pool.Family(is4) {
		if l.takenBy(addr) == "" {
			p.addresses = append(p.addresses, addr)
			return
		}
	}
	p.fail(ReasonPoolExhausted, "no address is free in the pool %s", pool)
}

// wishesOf returns the addresses that a Service asks for: those of the annotation, else
// spec.loadBalancerIP.
func wishesOf(service *keelsonv1.Service) ([]netip.Addr, error) {
	where, text := "annotation "+keelsonv1.LoadBalancerIPsAnnotation, service.Annotations[keelsonv1.LoadBalancerIPsAnnotation]
	if text == "" {
		where, text = "spec.loadBalancerIP", service.Spec.LoadBalancerIP
	}
	if text == "" {
		return nil, nil
	}
	var wishes []netip.Addr
	for part := range strings.SplitSeq(text, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not an IP address", where, part)
		}
		if slices.ContainsFunc(wishes, func(had netip.Addr) bool { return had.Is4() == addr.Is4() }) {
			return nil, fmt.Errorf("%s: %q has two addresses of one family", where, text)
		}
		if !slices.Contains(service.Spec.IPFamilies, familyOf(addr)) {
			return nil, fmt.Errorf("%s: %s is of a family that spec.ipFamilies lacks", where, addr)
		}
		wishes = append(wishes, addr)
	}
	return wishes, nil
}

func familyOf(addr netip.Addr) corev1.IPFamily {
	if addr.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}
