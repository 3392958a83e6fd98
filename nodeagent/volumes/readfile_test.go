package volumes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

func TestReadFileStaysInTheVolume(t *testing.T) {
	r := newRig(t)
	pod := podWith(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	if _, err := r.SetUp(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	volume := r.dir("empty-dir", "v")
	outside := filepath.Join(t.TempDir(), "secret")
	for path, text := range map[string]string{
		outside: "secret", filepath.Join(volume, "file"): "text", filepath.Join(volume, "long"): strings.Repeat("x", maxFile+1),
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"inside": "file", "out": outside, "up": "../../../../../../../../../../.." + outside, "magic": "/proc/self/root" + outside} {
		if err := os.Symlink(target, filepath.Join(volume, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(volume, "pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ path, want, wantErr string }{
		"a file":                       {"file", "text", ""},
		"a link within":                {"inside", "text", ""},
		"a link out":                   {"out", "", "cross-device link"},
		"a relative link out":          {"up", "", "cross-device link"},
		"a link through /proc":         {"magic", "", "cross-device link"},
		"a path out":                   {"../../../../../.." + outside, "", "cross-device link"},
		"a pipe that nobody writes to": {"pipe", "", "no ordinary file"},
		"a folder":                     {".", "", "no ordinary file"},
		"a file that is too long":      {"long", "", "longer than 1048576 bytes"},
		"nothing":                      {"none", "", "no such file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := r.ReadFile(pod, "v", tt.path)
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error %v, want %q in it", err, tt.wantErr)
			}
			if got != tt.want {
				t.Errorf("read %q, want %q", got, tt.want)
			}
		})
	}
	if path, ok := r.FilePath(pod, "v", "file"); !ok || path != filepath.Join(volume, "file") {
		t.Errorf("the file is at %s, %v", path, ok)
	}
	if _, ok := r.FilePath(pod, "w", "file"); ok {
		t.Error("found a file in a volume that the Pod does not have")
	}
}
