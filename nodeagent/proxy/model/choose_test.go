package model

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// endpoint is written as "10.0.0.1 local ready serving terminating zone=a,b node=n".
func endpoint(text string) Endpoint {
	words := strings.Fields(text)
	e := Endpoint{Address: netip.AddrPortFrom(netip.MustParseAddr(words[0]), 80)}
	for _, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "local":
			e.Local = true
		case "ready":
			e.Ready, e.Serving = true, true
		case "serving":
			e.Serving = true
		case "terminating":
			e.Terminating = true
		case "zone", "node":
			if e.Hints == nil {
				e.Hints = &Hints{}
			}
			if name == "zone" {
				e.Hints.Zones = strings.Split(value, ",")
			} else {
				e.Hints.Nodes = strings.Split(value, ",")
			}
		default:
			panic("unknown word " + word)
		}
	}
	return e
}

func addresses(endpoints []Endpoint) string {
	var out []string
	for _, e := range endpoints {
		out = append(out, e.Address.Addr().String())
	}
	return strings.Join(out, " ")
}

// The cases are those of kube-proxy's topology_test.go: this node is n1 in zone a.
func TestChoose(t *testing.T) {
	type port = ServicePort
	internalLocal := port{InternalLocal: true}
	externalLocal := port{ExternalLocal: true, NodePort: 30000}
	bothLocal := port{InternalLocal: true, ExternalLocal: true, NodePort: 30000}
	hintedToZones := []string{"10.0.0.1 local ready zone=a", "10.0.0.2 ready zone=b", "10.0.0.3 ready zone=c", "10.0.0.4 ready zone=a"}
	for name, tc := range map[string]struct {
		port      port
		zone      string
		endpoints []string
		// want is cluster, local, all
		want [3]string
		none bool
	}{
		"hints for this zone":                            {zone: "a", endpoints: hintedToZones, want: [3]string{"10.0.0.1 10.0.0.4", "", "10.0.0.1 10.0.0.4"}},
		"local external traffic does not look at hints":  {port: externalLocal, zone: "a", endpoints: []string{"10.0.0.1 local ready zone=b", "10.0.0.2 ready zone=a"}, want: [3]string{"10.0.0.2", "10.0.0.1", "10.0.0.1 10.0.0.2"}},
		"local internal traffic does not look at hints":  {port: internalLocal, zone: "a", endpoints: []string{"10.0.0.1 local ready zone=b", "10.0.0.2 ready zone=a"}, want: [3]string{"", "10.0.0.1", "10.0.0.1"}},
		"a node without zone uses all":                   {endpoints: hintedToZones, want: [3]string{"10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4", "", "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4"}},
		"a node in a zone without endpoints uses all":    {zone: "d", endpoints: hintedToZones, want: [3]string{"10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4", "", "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4"}},
		"not ready ones are left out":                    {zone: "a", endpoints: []string{"10.0.0.1 zone=a", "10.0.0.2 ready zone=a", "10.0.0.3 ready zone=b"}, want: [3]string{"10.0.0.2", "", "10.0.0.2"}},
		"only not ready ones in the zone: all":           {zone: "a", endpoints: []string{"10.0.0.1 zone=a", "10.0.0.2 ready zone=b"}, want: [3]string{"10.0.0.2", "", "10.0.0.2"}},
		"one without hint: all":                          {zone: "a", endpoints: []string{"10.0.0.1 ready zone=a", "10.0.0.2 ready"}, want: [3]string{"10.0.0.1 10.0.0.2", "", "10.0.0.1 10.0.0.2"}},
		"hints for several zones":                        {zone: "a", endpoints: []string{"10.0.0.1 ready zone=a,b", "10.0.0.2 ready zone=b", "10.0.0.3 ready zone=c,a"}, want: [3]string{"10.0.0.1 10.0.0.3", "", "10.0.0.1 10.0.0.3"}},
		"hints for this node go before those for zones":  {zone: "a", endpoints: []string{"10.0.0.1 ready zone=a node=n1", "10.0.0.2 ready zone=a node=n2"}, want: [3]string{"10.0.0.1", "", "10.0.0.1"}},
		"one without hint for a node: zones":             {zone: "a", endpoints: []string{"10.0.0.1 ready zone=a node=n1", "10.0.0.2 ready zone=a", "10.0.0.3 ready zone=b node=n1"}, want: [3]string{"10.0.0.1 10.0.0.2", "", "10.0.0.1 10.0.0.2"}},
		"hints for other nodes only: zones":              {zone: "a", endpoints: []string{"10.0.0.1 ready zone=a node=n3", "10.0.0.2 ready zone=b node=n2"}, want: [3]string{"10.0.0.1", "", "10.0.0.1"}},
		"hints and local traffic disagree":               {port: externalLocal, zone: "a", endpoints: []string{"10.0.0.0 local ready zone=a", "10.0.0.1 ready zone=b", "10.0.0.2 local ready zone=b"}, want: [3]string{"10.0.0.0", "10.0.0.0 10.0.0.2", "10.0.0.0 10.0.0.2"}},
		"no endpoints":                                   {port: internalLocal, none: true},
		"internal local, all elsewhere":                  {port: internalLocal, endpoints: []string{"10.0.0.0 ready", "10.0.0.1 ready"}},
		"internal local, all here":                       {port: internalLocal, endpoints: []string{"10.0.0.0 local ready", "10.0.0.1 local ready"}, want: [3]string{"", "10.0.0.0 10.0.0.1", "10.0.0.0 10.0.0.1"}},
		"nothing is ready":                               {endpoints: []string{"10.0.0.0", "10.0.0.1"}, none: true},
		"all terminate":                                  {endpoints: []string{"10.0.0.0 serving terminating", "10.0.0.1 serving terminating", "10.0.0.2 terminating"}, want: [3]string{"10.0.0.0 10.0.0.1", "", "10.0.0.0 10.0.0.1"}},
		"one that terminates waits for the last ready":   {endpoints: []string{"10.0.0.0 serving terminating", "10.0.0.1 ready"}, want: [3]string{"10.0.0.1", "", "10.0.0.1"}},
		"internal local, external anywhere":              {port: port{InternalLocal: true, NodePort: 30000}, endpoints: []string{"10.0.0.0 local ready", "10.0.0.1 ready"}, want: [3]string{"10.0.0.0 10.0.0.1", "10.0.0.0", "10.0.0.0 10.0.0.1"}},
		"internal anywhere, external local":              {port: externalLocal, endpoints: []string{"10.0.0.0 local ready", "10.0.0.1 ready"}, want: [3]string{"10.0.0.0 10.0.0.1", "10.0.0.0", "10.0.0.0 10.0.0.1"}},
		"both local, all elsewhere":                      {port: bothLocal, endpoints: []string{"10.0.0.0 ready", "10.0.0.1 ready"}, want: [3]string{"10.0.0.0 10.0.0.1", "", "10.0.0.0 10.0.0.1"}},
		"both local, all elsewhere and terminating":      {port: bothLocal, endpoints: []string{"10.0.0.0 serving terminating", "10.0.0.1 terminating"}, want: [3]string{"10.0.0.0", "", "10.0.0.0"}},
		"local fall back to those that terminate":        {port: externalLocal, endpoints: []string{"10.0.0.0 local serving terminating", "10.0.0.1 local terminating", "10.0.0.2 ready"}, want: [3]string{"10.0.0.2", "10.0.0.0", "10.0.0.0 10.0.0.2"}},
		"external local without a way from outside":      {port: port{ExternalLocal: true}, endpoints: []string{"10.0.0.0 local ready", "10.0.0.1 ready"}, want: [3]string{"10.0.0.0 10.0.0.1", "", "10.0.0.0 10.0.0.1"}},
		"one that neither is ready nor serves nor stops": {endpoints: []string{"10.0.0.0"}, none: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, e := range tc.endpoints {
				tc.port.Endpoints = append(tc.port.Endpoints, endpoint(e))
			}
			got := tc.port.Choose("n1", tc.zone)
			if diff := cmp.Diff(tc.want, [3]string{addresses(got.Cluster), addresses(got.Local), addresses(got.All)}); diff != "" {
				t.Errorf("cluster, local, all (-want +got):\n%s", diff)
			}
			if got.Any == tc.none {
				t.Errorf("Any = %v", got.Any)
			}
		})
	}
}
