package names

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for name, tt := range map[string]struct {
		name  string
		zone  string
		short bool
		want  Request
		err   error
	}{
		"the zone":                        {name: "cluster.local."},
		"the zone of Services":            {name: "svc.cluster.local."},
		"the zone of Pods":                {name: "pod.cluster.local."},
		"a namespace":                     {name: "ns.svc.cluster.local.", want: Request{Kind: Svc, Namespace: "ns"}},
		"a Service":                       {name: "web.ns.svc.cluster.local.", want: Request{Kind: Svc, Namespace: "ns", Name: "web"}},
		"an endpoint":                     {name: "10-0-0-1.web.ns.svc.cluster.local.", want: Request{Kind: Svc, Namespace: "ns", Name: "web", Endpoint: "10-0-0-1"}},
		"a port":                          {name: "_http._tcp.web.ns.svc.cluster.local.", want: Request{Kind: Svc, Namespace: "ns", Name: "web", Port: "http", Protocol: "tcp"}},
		"a Pod":                           {name: "10-0-0-1.ns.pod.cluster.local.", want: Request{Kind: Pod, Namespace: "ns", Name: "10-0-0-1"}},
		"a Service called svc":            {name: "svc.svc.svc.cluster.local.", want: Request{Kind: Svc, Namespace: "svc", Name: "svc"}},
		"the root as zone":                {name: "web.ns.svc.", zone: ".", want: Request{Kind: Svc, Namespace: "ns", Name: "web"}},
		"neither svc nor pod":             {name: "web.ns.cluster.local.", err: ErrInvalid},
		"too long":                        {name: "a.b.c.web.ns.svc.cluster.local.", err: ErrInvalid},
		"the short form of a Service":     {name: "web.ns.cluster.local.", short: true, want: Request{Kind: Svc, Namespace: "ns", Name: "web"}},
		"the short form of a port":        {name: "_http._tcp.web.ns.cluster.local.", short: true, want: Request{Kind: Svc, Namespace: "ns", Name: "web", Port: "http", Protocol: "tcp"}},
		"a single label is not short":     {name: "web.cluster.local.", short: true, err: ErrInvalid},
		"the long form where short is on": {name: "web.ns.svc.cluster.local.", short: true, want: Request{Kind: Svc, Namespace: "ns", Name: "web"}},
	} {
		t.Run(name, func(t *testing.T) {
			zone := tt.zone
			if zone == "" {
				zone = "cluster.local."
			}
			got, err := Parse(tt.name, zone, tt.short)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
		})
	}
}

func TestAddressesAsLabels(t *testing.T) {
	for address, want := range map[string]string{
		"10.244.0.5": "10-244-0-5", "2001:db8::5": "2001-db8--5", "1:2:3:4:5:6:7:8": "1-2-3-4-5-6-7-8",
		"2001:db8::": "2001-db8--0", // no label ends in a dash
	} {
		if got := AddressLabel(address); got != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
	}
	for label, want := range map[string]string{"10-244-0-5": "10.244.0.5", "2001-db8--5": "2001:db8::5", "1-2--3": "1:2::3", "web": "web"} {
		if got := LabelAddress(label); got != want {
			t.Errorf("%s is %s, want %s", label, got, want)
		}
	}
}
