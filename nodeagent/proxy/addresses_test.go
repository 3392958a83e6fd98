package proxy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/render"
)

func TestNodePortAddresses(t *testing.T) {
	machine := ips("192.0.2.1", "198.51.100.1", "127.0.0.1", "fd00:192::1", "::1", "192.0.2.1")
	node := ips("192.0.2.1", "fd00:192::1")
	for name, tc := range map[string]struct {
		flag      []string
		four, six string
	}{
		"nothing said: all":                       {nil, "all", "all"},
		"primary":                                 {[]string{"primary"}, "192.0.2.1", "fd00:192::1"},
		"a range of one family leaves the other":  {[]string{"198.51.100.0/24"}, "198.51.100.1", "all"},
		"two ranges, host bits do not matter":     {[]string{"192.0.2.77/24", "127.0.0.0/8"}, "127.0.0.1 192.0.2.1", "all"},
		"a range that the machine has nothing of": {[]string{"203.0.113.0/24"}, "", "all"},
		"everything beside something":             {[]string{"192.0.2.0/24", "0.0.0.0/0", "fd00::/16"}, "all", "fd00:192::1"},
	} {
		t.Run(name, func(t *testing.T) {
			parsed, err := parseNodePortAddresses(tc.flag)
			if err != nil {
				t.Fatal(err)
			}
			describe := func(family model.Family) string {
				policy := parsed.apply(render.Policy{}, family, node, machine)
				if !policy.SomeNodePortAddresses {
					return "all"
				}
				var out []string
				for _, ip := range policy.NodePortAddresses {
					out = append(out, ip.String())
				}
				return strings.Join(out, " ")
			}
			if diff := cmp.Diff([]string{tc.four, tc.six}, []string{describe(model.IPv4), describe(model.IPv6)}); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
	for _, bad := range [][]string{{"primary", "192.0.2.0/24"}, {"192.0.2.1"}, {"all"}} {
		if err := ValidateNodePortAddresses(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
