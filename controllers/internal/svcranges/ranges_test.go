package svcranges

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseServiceCIDR(t *testing.T) {
	tests := map[string]struct {
		cidr    string
		wantErr string
	}{
		"the default range is good":                   {cidr: DefaultServiceCIDR},
		"the smallest range that has a DNS address":   {cidr: "10.0.0.0/28"},
		"a range too small for the DNS address":       {cidr: "10.0.0.0/29", wantErr: "between /12 and /28"},
		"a range larger than upstream allows":         {cidr: "10.0.0.0/8", wantErr: "between /12 and /28"},
		"host bits are set: the fix is named":         {cidr: "10.254.1.0/16", wantErr: "write 10.254.0.0/16"},
		"IPv6 alone is refused":                       {cidr: "fd00::/112", wantErr: "no IPv4 range"},
		"two ranges are one too many":                 {cidr: "10.254.0.0/16,fd00::/112", wantErr: "two ranges"},
		"text that is no CIDR":                        {cidr: "10.254.0.0", wantErr: "not an address range"},
		"an empty string":                             {cidr: "", wantErr: "not an address range"},
		"an IPv4-mapped IPv6 range is not read as v4": {cidr: "::ffff:10.0.0.0/112", wantErr: "IPv4"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ParseServiceCIDR(tc.cidr)
			checkErr(t, err, tc.wantErr)
		})
	}
}

func TestParseServiceCIDRs(t *testing.T) {
	tests := map[string]struct{ cidrs, wantErr string }{
		"IPv6 second":                     {cidrs: "10.254.0.0/16,fd00::/112"},
		"IPv6 first":                      {cidrs: "fd00::/108,10.254.0.0/16"},
		"the largest IPv6 range":          {cidrs: "10.254.0.0/16,fd00::/64"},
		"a larger IPv6 range":             {cidrs: "10.254.0.0/16,fd00::/63", wantErr: "between /64 and /124"},
		"too small for the DNS address":   {cidrs: "10.254.0.0/16,fd00::/125", wantErr: "between /64 and /124"},
		"two ranges of one family":        {cidrs: "10.254.0.0/16,10.253.0.0/16", wantErr: "one family"},
		"an IPv4 range that is too large": {cidrs: "fd00::/112,10.0.0.0/8", wantErr: "between /12 and /28"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ParseServiceCIDRs(tc.cidrs)
			checkErr(t, err, tc.wantErr)
		})
	}
}

func TestAddressRangeOfIPv6(t *testing.T) {
	all, err := ParseServiceCIDRs("10.254.0.0/16,fd00:10:96::/64")
	if err != nil {
		t.Fatal(err)
	}
	r := all.Family(false)
	if all.Family(true).String() != "10.254.0.0/16" || r.Is4() || (AddressRanges{}).Family(false).IsValid() {
		t.Errorf("families: %v", all)
	}
	if got, want := r.KubernetesAddress().String(), "fd00:10:96::1"; got != want {
		t.Errorf("KubernetesAddress() = %s, want %s", got, want)
	}
	if got, want := r.At(r.Size()).String(), "fd00:10:96::ffff"; got != want {
		t.Errorf("last drawn address = %s, want %s", got, want)
	}
	for addr, want := range map[string]bool{
		"fd00:10:96::": false, "fd00:10:96::1": true, "fd00:10:96::ffff": true, "fd00:10:96::1:0": true,
		"fd00:10:96:0:ffff:ffff:ffff:ffff": true, "fd00:10:96:1::1": false, "10.254.0.1": false,
	} {
		if got := r.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Contains(%s) = %t, want %t", addr, got, want)
		}
	}
	if !all.Contains(netip.MustParseAddr("10.254.0.1")) || all.Contains(netip.MustParseAddr("10.253.0.1")) {
		t.Error("Contains of both ranges is wrong")
	}
}

func TestAddressRange(t *testing.T) {
	r := mustCIDR(t, "10.254.0.0/16")
	if got, want := r.KubernetesAddress().String(), "10.254.0.1"; got != want {
		t.Errorf("KubernetesAddress() = %s, want %s", got, want)
	}
	if got, want := r.DNSAddress().String(), "10.254.0.10"; got != want {
		t.Errorf("DNSAddress() = %s, want %s", got, want)
	}
	if got, want := r.At(r.Size()).String(), "10.254.255.254"; got != want {
		t.Errorf("last address = %s, want %s", got, want)
	}
	if got, want := r.StaticBand(), 256; got != want {
		t.Errorf("StaticBand() = %d, want %d", got, want)
	}
	contains := map[string]bool{
		"10.254.0.0": false, "10.254.0.1": true, "10.254.255.254": true,
		"10.254.255.255": false, "10.253.255.255": false, "10.255.0.0": false, "::1": false,
	}
	for addr, want := range contains {
		if got := r.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Contains(%s) = %t, want %t", addr, got, want)
		}
	}
	if (AddressRange{}).Contains(netip.MustParseAddr("0.0.0.1")) {
		t.Error("the zero range contains an address")
	}
}

func TestEveryOffsetIsContainedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(20, 32-minHostBits).Draw(t, "bits")
		base := netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 255).Draw(t, "b")), byte(rapid.IntRange(0, 255).Draw(t, "c")), 0})
		r, err := ParseServiceCIDR(netip.PrefixFrom(base, bits).Masked().String())
		if err != nil {
			t.Fatal(err)
		}
		seen := map[netip.Addr]bool{}
		for offset := range r.Size() {
			addr := r.At(offset + 1)
			if !r.Contains(addr) || seen[addr] {
				t.Fatalf("At(%d) = %s: contained %t, seen before %t", offset+1, addr, r.Contains(addr), seen[addr])
			}
			seen[addr] = true
		}
		if r.At(0).IsValid() || r.At(r.Size()+1).IsValid() {
			t.Fatal("an offset outside the range has an address")
		}
	})
}

func TestNodePortRange(t *testing.T) {
	tests := map[string]struct {
		ports          string
		want           PortRange
		wantStaticBand int
		wantErr        string
	}{
		"the default range":         {ports: DefaultNodePortRange, want: PortRange{30000, 32767}, wantStaticBand: 86},
		"one port":                  {ports: "30000", want: PortRange{30000, 30000}},
		"base and offset":           {ports: "30000+10", want: PortRange{30000, 30010}},
		"backwards":                 {ports: "32767-30000", wantErr: "not a port range"},
		"beyond the last port":      {ports: "65000-65536", wantErr: "not a port range"},
		"empty":                     {ports: "", wantErr: "at least one port"},
		"zero is no port":           {ports: "0-10", wantErr: "at least one port"},
		"a wide range, band capped": {ports: "1-65535", want: PortRange{1, 65535}, wantStaticBand: 128},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseNodePortRange(tc.ports)
			checkErr(t, err, tc.wantErr)
			if got != tc.want {
				t.Errorf("ParseNodePortRange(%q) = %v, want %v", tc.ports, got, tc.want)
			}
			if got.StaticBand() != tc.wantStaticBand {
				t.Errorf("StaticBand() = %d, want %d", got.StaticBand(), tc.wantStaticBand)
			}
		})
	}
}

func mustCIDR(t *testing.T, cidr string) AddressRange {
	t.Helper()
	r, err := ParseServiceCIDR(cidr)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func checkErr(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("unexpected error: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error = %v, want one that contains %q", err, want)
	}
}
