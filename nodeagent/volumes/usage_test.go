package volumes

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestUsage(t *testing.T) {
	tests := map[string]struct {
		size  int
		names int
		want  int64
		files int64
	}{
		"nothing":                   {names: 0, files: 1}, // the folder itself
		"a file":                    {size: 1 << 20, names: 1, want: 1 << 20, files: 2},
		"one file with three names": {size: 1 << 20, names: 3, want: 1 << 20, files: 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			inMemory := corev1.Volume{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}
			pod := podWith(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
			if _, err := r.SetUp(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			pod.Spec.Volumes = append(pod.Spec.Volumes, inMemory)
			dir := r.dir("empty-dir", "v")
			empty, err := usage(dir)
			if err != nil {
				t.Fatal(err)
			}
			for i := range tt.names {
				path := filepath.Join(dir, string(rune('0'+i)))
				if i == 0 {
					err = os.WriteFile(path, make([]byte, tt.size), 0o600)
				} else {
					err = os.Link(filepath.Join(dir, "0"), path)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			got, err := r.Usage(pod)
			if err != nil || len(got) != 1 || got["v"] != (runtime.DiskUsage{Bytes: empty.Bytes + tt.want, Inodes: tt.files}) {
				t.Errorf("got %v, %v, want %d bytes more than %d, %d files", got, err, tt.want, empty.Bytes, tt.files)
			}
		})
	}
}
