package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRequests(t *testing.T) {
	const before = `# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="",subresource="/metrics",verb="GET"} 5
apiserver_request_total{code="200",resource="pods",subresource="status",verb="PATCH"} 3
apiserver_request_total{code="409",resource="pods",subresource="status",verb="PATCH"} 1
apiserver_request_total{code="200",resource="leases",subresource="",verb="PUT"} 7
`
	after := strings.Replace(before, "} 3\n", "} 5\n", 1) + `apiserver_request_total{code="201",resource="pods",subresource="",verb="POST"} 2
`
	parse := func(text string) Requests {
		got, err := parseRequests([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := Requests{"PATCH pods/status": 2, "POST pods": 2}
	if diff := cmp.Diff(want, parse(after).since(parse(before))); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if _, err := parseRequests([]byte("no metrics{")); err == nil {
		t.Error("text that is no metrics passes")
	}
}
