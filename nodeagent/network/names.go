package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// PodInterfacePrefix begins the name of every Pod's interface on the host.
const PodInterfacePrefix = "kls"

// podLink is the Pod's own interface, as its programs see it.
const podLink = "eth0"

// linkName is the host side of a Pod's veth pair: the prefix and 48 bits of a hash,
// which is what fits into IFNAMSIZ.
func linkName(uid types.UID) string {
	sum := sha256.Sum256([]byte(uid))
	return PodInterfacePrefix + hex.EncodeToString(sum[:(maxLinkName-len(PodInterfacePrefix))/2])
}

func isPodLink(name string) bool {
	return len(name) == maxLinkName && strings.HasPrefix(name, PodInterfacePrefix)
}

// Addresses are set when interfaces are made, for two reasons: each side can be told
// the other's as a permanent neighbour, so that no ARP happens; and an address that
// was chosen is left alone by systemd-udevd (MACAddressPolicy=persistent would
// otherwise change it after the fact). 0x0a marks them as locally administered.

// hostMAC is that of the host side of every veth pair: each pair is a link of its own.
func hostMAC() net.HardwareAddr { return net.HardwareAddr{0x0a, 0x4b, 0, 0, 0, 0x01} }

func podMAC(ip netip.Addr) net.HardwareAddr {
	b := ip.As4()
	return net.HardwareAddr{0x0a, 0x4c, b[0], b[1], b[2], b[3]}
}

var uidPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

func validateUID(uid types.UID) error {
	if !uidPattern.MatchString(string(uid)) {
		return fmt.Errorf("pod UID %q: must be 1 to 128 letters, digits, '-', '_' or '.' and begin with a letter or digit", uid)
	}
	return nil
}

// keyedMutex is one mutex per key, kept only while somebody holds or awaits it.
type keyedMutex struct {
	mu   sync.Mutex
	held map[string]*countedMutex
}

type countedMutex struct {
	sync.Mutex
	users int
}

func (k *keyedMutex) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[string]*countedMutex{}
	}
	m := k.held[key]
	if m == nil {
		m = &countedMutex{}
		k.held[key] = m
	}
	m.users++
	k.mu.Unlock()

	m.Lock()
	return func() {
		m.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if m.users--; m.users == 0 {
			delete(k.held, key)
		}
	}
}
