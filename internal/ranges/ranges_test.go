package ranges

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := map[string]struct{ text, want, wantErr string }{
		"one range":                       {text: "10.244.0.0/16", want: "10.244.0.0/16"},
		"both families, IPv4 first":       {text: "10.244.0.0/16,fd00:10:244::/56", want: "10.244.0.0/16,fd00:10:244::/56"},
		"both families, IPv6 first":       {text: "fd00:10:244::/56, 10.244.0.0/16", want: "fd00:10:244::/56,10.244.0.0/16"},
		"nothing":                         {text: "", wantErr: `--r: "" is not an address range`},
		"an address":                      {text: "10.0.0.1", wantErr: "is not an address range"},
		"two of IPv4":                     {text: "10.0.0.0/16,10.1.0.0/16", wantErr: "two ranges of one family"},
		"three":                           {text: "10.0.0.0/16,fd00::/64,10.1.0.0/16", wantErr: "two ranges of one family"},
		"IPv6 alone":                      {text: "fd00::/64", wantErr: "has no IPv4 range"},
		"bits beyond the prefix":          {text: "10.244.0.0/16,fd00::1/64", wantErr: "write fd00::/64"},
		"IPv4 in IPv6":                    {text: "::ffff:10.0.0.0/112", wantErr: "written as IPv6"},
		"a comma too many is not ignored": {text: "10.244.0.0/16,", wantErr: `"" is not an address range`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Parse("--r", tt.text)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) || !strings.HasPrefix(err.Error(), "--r: ") {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil || got.String() != tt.want {
				t.Fatalf("got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestFamilies(t *testing.T) {
	both := MustParse("fd00::/56,10.0.0.0/16")
	if both.V4().String() != "10.0.0.0/16" || both.V6().String() != "fd00::/56" || both.Of(both.V4().Addr()) != both.V4() {
		t.Errorf("V4 %s, V6 %s", both.V4(), both.V6())
	}
	if MustParse("10.0.0.0/16").V6().IsValid() {
		t.Error("an IPv4 list has an IPv6 range")
	}
	if !both.Contains(both.V6().Addr()) || both.Contains(MustParse("10.1.0.0/16").V4().Addr()) {
		t.Error("Contains is wrong")
	}
}

func TestCheckPair(t *testing.T) {
	tests := map[string]struct{ services, pods, wantErr string }{
		"separate":                       {services: "10.254.0.0/16", pods: "10.244.0.0/16"},
		"Pods of a family of no Service": {services: "10.254.0.0/16", pods: "10.244.0.0/16,fd00::/56", wantErr: "10.254.0.0/16 lacks a range of the family of --p fd00::/56"},
		"both of two, in other orders":   {services: "10.254.0.0/16,fd01::/108", pods: "fd00::/56,10.244.0.0/16"},
		"overlapping":                    {services: "10.244.9.0/24", pods: "10.244.0.0/16", wantErr: "--s: 10.244.9.0/24 overlaps --p 10.244.0.0/16"},
		"overlapping in the second":      {services: "10.254.0.0/16,fd00::/108", pods: "10.244.0.0/16,fd00::/56", wantErr: "--s: fd00::/108 overlaps"},
		"Services of a family of no Pod": {services: "10.254.0.0/16,fd01::/108", pods: "10.244.0.0/16", wantErr: "Pods could not reach"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := CheckPair("--s", MustParse(tt.services), "--p", MustParse(tt.pods))
			if (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Fatalf("error %v, want %q", err, tt.wantErr)
			}
		})
	}
}
