package netlinkx

import "errors"

// SetIPv6 switches IPv6 on or off on an interface. Where it is on, the interface takes
// no configuration from the network and, if quiet, has no address of its own making.
// A kernel without IPv6 is an error only if it is to be on.
func SetIPv6(h Handle, link string, on, quiet bool) error {
	folder := "net/ipv6/conf/" + link + "/"
	if !on {
		if err := h.SetSysctl(folder+"disable_ipv6", "1"); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return nil
	}
	settings := [][2]string{{"accept_ra", "0"}, {"accept_redirects", "0"}, {"disable_ipv6", "0"}}
	if quiet {
		settings = append([][2]string{{"addr_gen_mode", "1"}}, settings...)
	}
	for _, s := range settings {
		if err := h.SetSysctl(folder+s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}
