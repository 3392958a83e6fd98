package volumes

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestOverfull(t *testing.T) {
	tests := map[string]struct {
		limit string
		size  int
		names int
		want  string
	}{
		"no limit":                  {size: 1 << 20, names: 1},
		"within the limit":          {limit: "2Mi", size: 1 << 20, names: 1},
		"beyond the limit":          {limit: "1Mi", size: 2 << 20, names: 1, want: `Usage of EmptyDir volume "v" exceeds the limit "1Mi". `},
		"one file with three names": {limit: "2Mi", size: 1 << 20, names: 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			source := &corev1.EmptyDirVolumeSource{}
			if tt.limit != "" {
				source.SizeLimit = new(resource.MustParse(tt.limit))
			}
			pod := podWith(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: source}})
			if _, err := r.SetUp(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			first := filepath.Join(r.dir("empty-dir", "v"), "0")
			if err := os.WriteFile(first, make([]byte, tt.size), 0o600); err != nil {
				t.Fatal(err)
			}
			for i := 1; i < tt.names; i++ {
				if err := os.Link(first, filepath.Join(r.dir("empty-dir", "v"), string(rune('0'+i)))); err != nil {
					t.Fatal(err)
				}
			}
			got, err := r.Overfull(pod)
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}
