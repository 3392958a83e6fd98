package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/state"
)

// Lease says that a Pod holds an address.
type Lease struct {
	UID types.UID  `json:"uid"`
	IP  netip.Addr `json:"ip"`
	// IP6 is zero for a Pod without IPv6. It follows from IP and the node's ranges, and is
	// kept because a Pod keeps what it got.
	IP6       netip.Addr `json:"ip6,omitzero"`
	Namespace string     `json:"namespace,omitempty"`
	Name      string     `json:"name,omitempty"`
	// AcquiredAt orders leases, so that a restarted agent goes on after the newest.
	AcquiredAt time.Time `json:"acquiredAt"`
}

// IPs returns the address of each family.
func (l Lease) IPs() []netip.Addr {
	if !l.IP6.IsValid() {
		return []netip.Addr{l.IP}
	}
	return []netip.Addr{l.IP, l.IP6}
}

// A lease is the file <ip>.json; that the name is the address keeps two leases of
// one address from existing.
const (
	leaseSuffix   = ".json"
	corruptSuffix = ".corrupt"
)

type store struct{ dir string }

func (s store) path(ip netip.Addr) string { return filepath.Join(s.dir, ip.String()+leaseSuffix) }

func (s store) save(l Lease) error {
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encoding the lease of %s: %w", l.IP, err)
	}
	return state.WriteFile(s.path(l.IP), append(data, '\n'), 0o600)
}

func (s store) remove(ip netip.Addr) error {
	if err := os.Remove(s.path(ip)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the lease of %s: %w", ip, err)
	}
	return nil
}

// load reads all leases. Files that are no lease are renamed out of the way and
// reported in corrupt: they cost one Pod its lease, not the node its start.
func (s store) load() (leases []Lease, corrupt []error, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("creating the directory of the address leases: %w", err)
	}
	if err := state.RemoveLeftovers(s.dir); err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("listing the address leases: %w", err)
	}
	byUID := map[types.UID]netip.Addr{}
	for _, entry := range entries {
		base, ok := strings.CutSuffix(entry.Name(), leaseSuffix)
		if !ok {
			continue
		}
		path := filepath.Join(s.dir, entry.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("reading an address lease: %w", err)
		}
		l, err := parseLease(base, data)
		if other, twice := byUID[l.UID]; err == nil && twice {
			err = fmt.Errorf("pod %s has the lease of %s too", l.UID, other)
		}
		if err != nil {
			corrupt = append(corrupt, fmt.Errorf("address lease %s is set aside as %s%s: %w", path, path, corruptSuffix, err))
			if err := os.Rename(path, path+corruptSuffix); err != nil {
				return nil, corrupt, fmt.Errorf("setting a corrupt address lease aside: %w", err)
			}
			continue
		}
		byUID[l.UID] = l.IP
		leases = append(leases, l)
	}
	return leases, corrupt, nil
}

// parseLease reads the content of the file <base>.json.
func parseLease(base string, data []byte) (Lease, error) {
	ip, err := netip.ParseAddr(base)
	if err != nil {
		return Lease{}, fmt.Errorf("the file's name is no address: %w", err)
	}
	var l Lease
	if err := json.Unmarshal(data, &l); err != nil {
		return Lease{}, fmt.Errorf("not a lease: %w", err)
	}
	switch {
	case l.IP != ip:
		return Lease{}, fmt.Errorf("says address %s", l.IP)
	case !ip.Is4():
		return Lease{}, errors.New("not an IPv4 address")
	case l.IP6.IsValid() && (!l.IP6.Is6() || l.IP6.Is4In6()):
		return Lease{}, fmt.Errorf("ip6 %s is not an IPv6 address", l.IP6)
	case l.UID == "":
		return Lease{}, errors.New("uid is missing")
	}
	return l, nil
}
