package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

func TestSubPathStaysInTheVolume(t *testing.T) {
	outside := t.TempDir()
	volume := t.TempDir()
	for link, target := range map[string]string{
		"absolute": outside, "relative": "../" + filepath.Base(outside), "inside": "folder", "dangling": "nowhere", "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(volume, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(volume, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(volume, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(volume, 0o777); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		path   string
		folder bool
		fails  bool
	}{
		"a folder":                    {path: "folder", folder: true},
		"a file":                      {path: "file"},
		"a link within":               {path: "inside", folder: true},
		"a folder that is made":       {path: "new/deep", folder: true},
		"below a link within":         {path: "inside/new", folder: true},
		"an absolute link out":        {path: "absolute", fails: true},
		"a relative link out":         {path: "relative", fails: true},
		"below an absolute link out":  {path: "absolute/new", fails: true},
		"below a relative link out":   {path: "relative/new", fails: true},
		"a link that leads nowhere":   {path: "dangling", fails: true},
		"a link to itself":            {path: "loop", fails: true},
		"below something of no depth": {path: "file/new", fails: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := makeSubPath(volume, tt.path)
			if err == nil {
				var open *os.File
				var folder bool
				if open, folder, err = openIn(volume, tt.path); err == nil {
					defer open.Close()
					if folder != tt.folder {
						t.Errorf("folder %v, want %v", folder, tt.folder)
					}
				}
			}
			if (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %v", err, tt.fails)
			}
		})
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside the volume are %v, %v", entries, err)
	}
	if info, err := os.Stat(filepath.Join(volume, "new/deep")); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("the folder that was made has mode %v, %v, want that of the volume", info.Mode(), err)
	}
}

func TestSubPathOf(t *testing.T) {
	variables := []string{"NAME=web", "EMPTY=", "UP=../x", "ROOT=/x"}
	tests := map[string]struct {
		mount         corev1.VolumeMount
		want, wantErr string
	}{
		"all of the volume":          {},
		"a path":                     {mount: corev1.VolumeMount{SubPath: "a/b"}, want: "a/b"},
		"an expression":              {mount: corev1.VolumeMount{SubPathExpr: "logs/$(NAME)"}, want: "logs/web"},
		"an escaped expression":      {mount: corev1.VolumeMount{SubPathExpr: "$$(NAME)"}, want: "$(NAME)"},
		"a variable without a value": {mount: corev1.VolumeMount{SubPathExpr: "$(NONE)"}, wantErr: `missing value for "NONE"`},
		"a path out":                 {mount: corev1.VolumeMount{SubPath: "a/../.."}, wantErr: "unable to provision SubPath `a/../..`: must not contain '..'"},
		"an expression out":          {mount: corev1.VolumeMount{SubPathExpr: "$(UP)"}, wantErr: "unable to provision SubPath `../x`: must not contain '..'"},
		"an absolute expression":     {mount: corev1.VolumeMount{SubPathExpr: "$(ROOT)"}, wantErr: "error SubPath `/x` must not be an absolute path"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := subPathOf(&tt.mount, variables)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got != tt.want || text != tt.wantErr {
				t.Errorf("got %q, %q; want %q, %q", got, text, tt.want, tt.wantErr)
			}
		})
	}
}

func TestParseMounts(t *testing.T) {
	const table = `22 1 0:21 / / rw - ext4 /dev/sda rw
30 22 0:30 / /pods/u/volumes/a rw shared:1 - tmpfs tmpfs rw
31 22 0:31 / /pods/u2/volumes/a rw - tmpfs tmpfs rw
32 30 0:32 / /pods/u/volumes/a/with\040space\134x rw - tmpfs tmpfs rw
`
	got, err := parseMounts(strings.NewReader(table), "/pods/u")
	if err != nil || len(got) != 2 || got[0] != "/pods/u/volumes/a" || got[1] != `/pods/u/volumes/a/with space\x` {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := parseMounts(strings.NewReader("nonsense\n"), "/"); err == nil {
		t.Error("nonsense was understood")
	}
}

// TestSubPathOfAVolumeThatSomebodyChanges swaps a folder of the volume for a link out of it
// as fast as it can: whatever is opened has to lie in the volume, and nothing may be made
// outside.
func TestSubPathOfAVolumeThatSomebodyChanges(t *testing.T) {
	outside, volume := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "mark"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	swapped, folder, link := filepath.Join(volume, "swapped"), filepath.Join(volume, "real"), filepath.Join(volume, "link")
	if err := os.MkdirAll(filepath.Join(folder, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", swapped); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for turn := 0; ; turn++ {
			select {
			case <-stop:
				return
			default:
			}
			target := [2]string{"real", outside}[turn%2]
			// In between the folder may be made where the link was.
			if err := os.RemoveAll(swapped); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
				t.Error(err)
				return
			}
			if err := os.Symlink(target, swapped); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Error(err)
				return
			}
		}
	}()
	opened := 0
	for i := range 3000 {
		path := []string{"swapped/deep", "swapped/made", "swapped"}[i%3]
		if err := makeSubPath(volume, path); err != nil {
			continue
		}
		open, _, err := openIn(volume, path)
		if err != nil {
			continue
		}
		opened++
		where, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", open.Fd()))
		if err != nil || where != volume && !strings.HasPrefix(where, volume+"/") {
			t.Errorf("opened %s, %v", where, err)
		}
		open.Close()
	}
	close(stop)
	<-done
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder outside holds %v, %v", entries, err)
	}
	if opened == 0 {
		t.Error("nothing could be opened: the test shows nothing")
	}
}
