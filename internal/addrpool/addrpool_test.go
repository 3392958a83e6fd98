package addrpool

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := map[string]struct {
		entries       []string
		want, wantErr string
	}{
		"a range is taken as it is":                 {entries: []string{"198.51.100.0-198.51.100.3"}, want: "198.51.100.0-198.51.100.3"},
		"a prefix loses its first and last address": {entries: []string{"198.51.100.0/30"}, want: "198.51.100.1-198.51.100.2"},
		"a /32 is one address":                      {entries: []string{"198.51.100.7/32"}, want: "198.51.100.7-198.51.100.7"},
		"a /31 has two":                             {entries: []string{"198.51.100.6/31"}, want: "198.51.100.6-198.51.100.7"},
		"an IPv6 prefix loses the first":            {entries: []string{"fd00::/126"}, want: "fd00::1-fd00::3"},
		"several, sorted":                           {entries: []string{"fd00::1-fd00::2", " 192.0.2.1/32"}, want: "192.0.2.1-192.0.2.1,fd00::1-fd00::2"},
		"none":                                      {},
		"no address":                                {entries: []string{"many"}, wantErr: "neither a range"},
		"one address is no range":                   {entries: []string{"192.0.2.1"}, wantErr: "neither a range"},
		"backwards":                                 {entries: []string{"192.0.2.9-192.0.2.1"}, wantErr: "lower address"},
		"of two families":                           {entries: []string{"192.0.2.9-fd00::1"}, wantErr: "same family"},
		"bits beyond the prefix":                    {entries: []string{"192.0.2.9/24"}, wantErr: "write 192.0.2.0/24"},
		"named twice":                               {entries: []string{"192.0.2.0/24", "192.0.2.9-192.0.2.9"}, wantErr: "overlaps"},
		"loopback":                                  {entries: []string{"127.0.0.1-127.0.0.9"}, wantErr: "cannot be"},
		"multicast":                                 {entries: []string{"224.0.0.0/8"}, wantErr: "cannot be"},
		"every wrong entry is named, not the first one": {entries: []string{"x", "192.0.2.9/24"}, wantErr: "192.0.2.9/24"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tt.entries)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil || got.String() != tt.want {
				t.Errorf("Parse: %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestFamiliesAndRanges(t *testing.T) {
	pool, err := Parse([]string{"fd00::5-fd00::6", "192.0.2.8-192.0.2.9", "192.0.2.1/32"})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, is4 := range []bool{true, false} {
		for addr := range pool.Family(is4) {
			all = append(all, addr.String())
		}
	}
	if want := []string{"192.0.2.1", "192.0.2.8", "192.0.2.9", "fd00::5", "fd00::6"}; !slices.Equal(all, want) {
		t.Errorf("addresses %v, want %v", all, want)
	}
	if pool.Contains(netip.MustParseAddr("192.0.2.7")) || !pool.Contains(netip.MustParseAddr("fd00::6")) {
		t.Error("Contains is wrong at the ends")
	}
	if err := pool.CheckApart("--service-cidr", []netip.Prefix{netip.MustParsePrefix("192.0.0.0/16")}); err == nil {
		t.Error("a range around the pool is not apart from it")
	}
	if err := pool.CheckApart("--service-cidr", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd01::/64")}); err != nil {
		t.Error(err)
	}
}
