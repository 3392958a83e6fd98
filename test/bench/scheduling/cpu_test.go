package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	rest := "S 77 1 1 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 5 6 7"
	for what, tc := range map[string]struct {
		text, name string
		parent     int
		used       time.Duration
		fails      bool
	}{
		"a program":                     {text: "12 (etcd) " + rest, name: "etcd", parent: 77, used: 2 * time.Second},
		"a name with a parenthesis":     {text: "12 (a) b) " + rest, name: "a) b", parent: 77, used: 2 * time.Second},
		"no name":                       {text: "12 etcd", fails: true},
		"cut off":                       {text: "12 (etcd) S 77 1", fails: true},
		"a time that is not a number":   {text: "12 (etcd) " + strings.Replace(rest, "150", "x", 1), fails: true},
		"a parent that is not a number": {text: "12 (etcd) " + strings.Replace(rest, "77", "x", 1), fails: true},
	} {
		name, parent, used, err := parseStat([]byte(tc.text))
		if (err != nil) != tc.fails || name != tc.name || parent != tc.parent || used != tc.used {
			t.Errorf("%s: %q, parent %d, %s, %v", what, name, parent, used, err)
		}
	}
}

func TestCPUForOnePod(t *testing.T) {
	before, after := cpuTimes{"etcd": time.Second}, cpuTimes{"etcd": 3 * time.Second, "new": time.Second}
	if got := after.perPod(before, 100); got["etcd"] != 20 || got["new"] != 10 {
		t.Errorf("%v, want 20 ms for etcd and 10 for new", got)
	}
}

func TestRequestsForOnePod(t *testing.T) {
	before, err := parseRequests("# HELP apiserver_request_total x\napiserver_request_total{code=\"200\",resource=\"pods\",subresource=\"\",verb=\"PATCH\"} 5\n")
	if err != nil {
		t.Fatal(err)
	}
	after, err := parseRequests("apiserver_request_total{code=\"200\",resource=\"pods\",subresource=\"\",verb=\"PATCH\"} 15\n" +
		"apiserver_request_total{code=\"409\",resource=\"pods\",subresource=\"\",verb=\"PATCH\"} 1e+01\n" +
		"apiserver_request_total{code=\"201\",resource=\"pods\",subresource=\"binding\",verb=\"POST\"} 5\n" +
		"other_total{verb=\"PATCH\"} 7\n")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := after.perPod(before, 10), "PATCH pods 2.00, POST pods/binding 0.50"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
