package local

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMemoryOfTheAPIServer(t *testing.T) {
	tests := map[string]struct {
		garbage string
		want    []string
	}{
		"little garbage, and harder near a quarter of the machine": {want: []string{"GOMEMLIMIT=4294967296", "GOGC=50"}},
		"what keelson up was told by GOGC counts":                  {garbage: "200", want: []string{"GOMEMLIMIT=4294967296"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := testPlan(Settings{})
			p.garbage = tt.garbage
			if diff := cmp.Diff(tt.want, p.commands()[nameAPIServer].Env); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}
