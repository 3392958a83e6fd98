package agent

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/keelson-dev/keelson/internal/ranges"
)

// OverlayOptions say how Pods reach those of other nodes.
type OverlayOptions struct {
	// Overlay is vxlan, host-gw or none.
	Overlay string `json:"overlay"`
	// OverlayPort is the UDP port of vxlan, the same on all nodes.
	OverlayPort int `json:"overlayPort"`
	// MTU of the Pods' interfaces in bytes; 0 derives it from the interface that leads to
	// the other nodes.
	MTU int `json:"mtu,omitempty"`
}

// Values of OverlayOptions.Overlay.
const (
	overlayVXLAN  = "vxlan"
	overlayHostGW = "host-gw"
	overlayNone   = "none"
)

// defaultOverlayPort is nobody's: flannel and Cilium have 8472, Calico and Docker the
// registered 4789. The kernel gives all datagrams of a port to one kind of tunnel, so
// a machine that has had another network keeps working.
const defaultOverlayPort = 8473

func newOverlayOptions() OverlayOptions {
	return OverlayOptions{Overlay: overlayVXLAN, OverlayPort: defaultOverlayPort}
}

func (o *OverlayOptions) addOverlayFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Overlay, "overlay", o.Overlay, "How Pods reach those of other nodes: 'vxlan' in any network, 'host-gw' by plain routes where all nodes share a link, 'none' when somebody else routes the nodes' Pod ranges.")
	fs.IntVar(&o.OverlayPort, "overlay-port", o.OverlayPort, "UDP port of vxlan, the same on all nodes.")
	fs.IntVar(&o.MTU, "mtu", o.MTU, "Largest packet of Pods in bytes. 0: what fits through the interface of the node's address.")
}

const (
	minMTU  = 576  // RFC 791: what every IPv4 host accepts
	minMTU6 = 1280 // RFC 8200
	maxMTU  = 65535
)

func (o *OverlayOptions) validateOverlay(pods ranges.List) error {
	var errs []error
	if modes := []string{overlayVXLAN, overlayHostGW, overlayNone}; !strings.Contains(" "+strings.Join(modes, " ")+" ", " "+o.Overlay+" ") {
		errs = append(errs, fmt.Errorf("--overlay: %q is none of %s", o.Overlay, strings.Join(modes, ", ")))
	}
	if o.OverlayPort < 1 || o.OverlayPort > 65535 {
		errs = append(errs, fmt.Errorf("--overlay-port: %d is not a port: use 1 to 65535", o.OverlayPort))
	}
	least := minMTU
	if pods.V6().IsValid() {
		least = minMTU6
	}
	if o.MTU != 0 && (o.MTU < least || o.MTU > maxMTU) {
		errs = append(errs, fmt.Errorf("--mtu: %d must be 0 (find out) or between %d and %d", o.MTU, least, maxMTU))
	}
	return errors.Join(errs...)
}
