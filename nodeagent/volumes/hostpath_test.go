package volumes

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestCheckHostPath(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	tests := map[string]struct {
		path string
		kind corev1.HostPathType
		want string
	}{
		"anything, even nothing":      {path: at("none"), kind: corev1.HostPathUnset},
		"a folder":                    {path: dir, kind: corev1.HostPathDirectory},
		"a file":                      {path: at("file"), kind: corev1.HostPathFile},
		"a socket":                    {path: at("socket"), kind: corev1.HostPathSocket},
		"a character device":          {path: "/dev/null", kind: corev1.HostPathCharDev},
		"a folder that is made":       {path: at("made/deep"), kind: corev1.HostPathDirectoryOrCreate},
		"a file that is made":         {path: at("made-file"), kind: corev1.HostPathFileOrCreate},
		"a folder that is there":      {path: dir, kind: corev1.HostPathDirectoryOrCreate},
		"a file instead of a folder":  {path: at("file"), kind: corev1.HostPathDirectory, want: "hostPath type check failed: " + at("file") + " is not a directory, it's a File"},
		"a folder instead of a file":  {path: dir, kind: corev1.HostPathFileOrCreate, want: "hostPath type check failed: " + dir + " is not a file, it's a Directory"},
		"a file instead of a socket":  {path: at("file"), kind: corev1.HostPathSocket, want: "hostPath type check failed: " + at("file") + " is not a socket file, it's a File"},
		"a socket instead of a disk":  {path: at("socket"), kind: corev1.HostPathBlockDev, want: "hostPath type check failed: " + at("socket") + " is not a block device, it's a Socket"},
		"a folder instead of a tty":   {path: dir, kind: corev1.HostPathCharDev, want: "hostPath type check failed: " + dir + " is not a character device, it's a Directory"},
		"a folder that is not there":  {path: at("none"), kind: corev1.HostPathDirectory, want: "hostPath type check failed, " + at("none") + " is not a directory, unable to determine its type: path \"" + at("none") + "\" does not exist"},
		"a path that leaves another":  {path: "/a/../b", kind: corev1.HostPathUnset, want: "invalid HostPath `/a/../b`: must not contain '..'"},
		"a kind that nobody has":      {path: dir, kind: "Pipe", want: "Pipe is an invalid volume type"},
		"a name with dots is no step": {path: at("a..b"), kind: corev1.HostPathUnset},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := checkHostPath(&corev1.HostPathVolumeSource{Path: tt.path, Type: &tt.kind}); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for _, made := range []string{"made/deep", "made-file"} {
		if !exists(at(made)) {
			t.Errorf("%s was not made", made)
		}
	}
}
