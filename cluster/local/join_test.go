package local

import (
	"strings"
	"testing"
)

func TestWhoCanBeJoined(t *testing.T) {
	for name, tc := range map[string]struct {
		nodes []NodeSettings
		want  string
	}{
		"a cluster of one node":             {nil, ""},
		"several nodes on a bridge of ours": {[]NodeSettings{{Name: "box-1"}, {Name: "box-2"}}, "keelson node add"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Settings{Nodes: tc.nodes}.checkJoinable()
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}
