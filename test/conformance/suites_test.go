package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestATestIsOfOneSuite(t *testing.T) {
	tests := map[string]string{
		"[sig-auth] Tokens should work [Conformance]":                                    "conformance",
		"[sig-network] Services should serve [Conformance]":                              "conformance",
		"[sig-network] Netpol API should support operations":                             "netpol",
		"[sig-network] Netpol NetworkPolicy deny all [Feature:NetworkPolicy]":            "netpol",
		"[sig-network] Services should be rejected when no endpoints exist":              "network",
		"[sig-network] LoadBalancers [Feature:LoadBalancer] should work [Slow]":          "loadbalancer",
		"[sig-network] [Feature:IPv6DualStack] should have at least one dual-stack node": "dualstack",
		"[sig-node] Pods should cap back-off":                                            "",
	}
	for name, want := range tests {
		got := ""
		for _, s := range suites() {
			if s.belongs(name) {
				got += s.name
			}
		}
		if got != want {
			t.Errorf("%s is of %q, want %q", name, got, want)
		}
	}
}

func TestARunIsAsItsSuiteSays(t *testing.T) {
	t.Chdir(repository)
	tests := map[string]struct {
		flags     runOptions
		wantNodes int
		wantFocus string
		wantLabel string
		wantTwo   bool
		wantOut   bool
		wantErr   bool
	}{
		"conformance":                {flags: runOptions{suite: "conformance"}, wantNodes: 1, wantLabel: "Conformance"},
		"conformance on three nodes": {flags: runOptions{suite: "conformance", nodes: 3, focus: "a"}, wantNodes: 3, wantFocus: "a", wantLabel: "Conformance"},
		"policies":                   {flags: runOptions{suite: "netpol"}, wantNodes: 3, wantFocus: `\[sig-network\] Netpol`},
		"some policies":              {flags: runOptions{suite: "netpol", focus: "SCTP"}, wantNodes: 3, wantFocus: "SCTP"},
		"two families":               {flags: runOptions{suite: "dualstack"}, wantNodes: 3, wantFocus: `\[Feature:IPv6DualStack\]`, wantTwo: true},
		"other labels":               {flags: runOptions{suite: "conformance", labels: "Slow"}, wantNodes: 1, wantLabel: "Slow"},
		"two families on one node":   {flags: runOptions{suite: "conformance", dualStack: true}, wantErr: true},
		"from outside":               {flags: runOptions{suite: "loadbalancer"}, wantNodes: 3, wantFocus: `\[sig-network\] LoadBalancers`, wantOut: true},
		"from outside of one node":   {flags: runOptions{suite: "conformance", outside: true}, wantErr: true},
		"no such suite":              {flags: runOptions{suite: "x"}, wantErr: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := tc.flags
			_, err := o.choose()
			if tc.wantErr {
				if err == nil {
					t.Error("no error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := runOptions{suite: o.suite, nodes: tc.wantNodes, focus: tc.wantFocus, labels: tc.wantLabel, dualStack: tc.wantTwo, outside: tc.wantOut, skip: o.skip}
			if diff := cmp.Diff(want, o, cmp.AllowUnexported(runOptions{})); diff != "" {
				t.Errorf("flags (-want +got):\n%s", diff)
			}
		})
	}
}
