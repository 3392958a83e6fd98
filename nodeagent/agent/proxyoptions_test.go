package agent

import (
	"strings"
	"testing"
)

func TestNodePortAddressesAreChecked(t *testing.T) {
	for want, addresses := range map[string][]string{
		"":                                 {"192.0.2.0/24", "2001:db8::/64"},
		`"primary" must be the only entry`: {"primary", "192.0.2.0/24"},
		`"192.0.2.1" is neither`:           {"192.0.2.1"},
	} {
		o := NewOptions()
		o.Kubeconfig, o.NodePortAddresses = "/kubeconfig", addresses
		err := o.Validate()
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), "--nodeport-addresses: "+want)) {
			t.Errorf("%q: error is %v, want one with %q", addresses, err, want)
		}
	}
}
