package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func noGroup() error { return nil }

func plainFiles(pairs ...string) payload {
	p := payload{}
	for i := 0; i < len(pairs); i += 2 {
		p[pairs[i]] = file{data: []byte(pairs[i+1]), mode: 0o644}
	}
	return p
}

// contents reads what a program sees in dir, and that nothing else is there.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	var walk func(at, prefix string)
	walk = func(at, prefix string) {
		entries, err := os.ReadDir(at)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), "..") {
				continue
			}
			path := filepath.Join(at, entry.Name())
			if info, err := os.Stat(path); err != nil {
				t.Fatal(err)
			} else if info.IsDir() {
				walk(path, prefix+entry.Name()+"/")
				continue
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			seen[prefix+entry.Name()] = string(data)
		}
	}
	walk(dir, "")
	return seen
}

func stamped(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "..2*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestWriteFiles(t *testing.T) {
	tests := map[string]struct {
		before, after []string
		want          map[string]string
	}{
		"into an empty volume":        {after: []string{"a", "1", "d/b", "2"}, want: map[string]string{"a": "1", "d/b": "2"}},
		"another content":             {before: []string{"a", "1"}, after: []string{"a", "2"}, want: map[string]string{"a": "2"}},
		"one more and one less":       {before: []string{"a", "1", "b", "2"}, after: []string{"b", "2", "c", "3"}, want: map[string]string{"b": "2", "c": "3"}},
		"a folder instead of a file":  {before: []string{"a", "1"}, after: []string{"a/b", "2"}, want: map[string]string{"a/b": "2"}},
		"a file instead of a folder":  {before: []string{"a/b", "1"}, after: []string{"a", "2"}, want: map[string]string{"a": "2"}},
		"nothing any more":            {before: []string{"a", "1"}, want: map[string]string{}},
		"names that begin with a dot": {after: []string{".hidden", "1"}, want: map[string]string{".hidden": "1"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, files := range [][]string{tt.before, tt.after} {
				if err := writeFiles(dir, plainFiles(files...), time.Now(), noGroup); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tt.want, contents(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if found := stamped(t, dir); len(found) != 1 {
				t.Errorf("folders %v, want one", found)
			}
		})
	}
}

func TestSameFilesAreNotWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if err := writeFiles(dir, plainFiles("a", "1"), time.Now(), noGroup); err != nil {
			t.Fatal(err)
		}
	}
	before := stamped(t, dir)
	if err := writeFiles(dir, plainFiles("a", "1"), time.Now(), func() error { return errors.New("written") }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, stamped(t, dir)); diff != "" {
		t.Errorf("folders (-before +after):\n%s", diff)
	}
}

// TestCrashWhileWriting leaves what an agent that is killed at each step leaves.
func TestCrashWhileWriting(t *testing.T) {
	crashes := map[string]func(dir string) error{
		"before the files are published": func(dir string) error {
			return os.MkdirAll(filepath.Join(dir, "..2026_01_01_00_00_00.1", "half"), 0o755)
		},
		"with the new link made": func(dir string) error { return os.Symlink("..2026_01_01_00_00_00.1", filepath.Join(dir, newDataLink)) },
		"with names not shown":   func(dir string) error { return os.Remove(filepath.Join(dir, "a")) },
		"with what is published gone": func(dir string) error {
			target, err := os.Readlink(filepath.Join(dir, dataLink))
			return errors.Join(err, os.RemoveAll(filepath.Join(dir, target)))
		},
	}
	for name, crash := range crashes {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := writeFiles(dir, plainFiles("a", "1"), time.Now(), noGroup); err != nil {
				t.Fatal(err)
			}
			if err := crash(dir); err != nil {
				t.Fatal(err)
			}
			if err := writeFiles(dir, plainFiles("a", "1", "b", "2"), time.Now(), noGroup); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]string{"a": "1", "b": "2"}, contents(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if found := stamped(t, dir); len(found) != 1 {
				t.Errorf("folders %v, want one", found)
			}
		})
	}
}

func TestPathsStayInTheVolume(t *testing.T) {
	for _, path := range []string{"", ".", "/etc/passwd", "../x", "a/../../x", "..data", "..2026"} {
		dir := t.TempDir()
		if err := writeFiles(dir, plainFiles(path, "x"), time.Now(), noGroup); err == nil {
			t.Errorf("path %q was written", path)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("path %q left %v, %v", path, entries, err)
		}
	}
}

func TestModesAndGroup(t *testing.T) {
	dir := t.TempDir()
	files := payload{"a": {data: []byte("1"), mode: 0o400}, "d/b": {data: []byte("2"), mode: 0o640}}
	group := new(int64(os.Getgid()))
	if err := writeFiles(dir, files, time.Now(), func() error { return giveToGroup(dir, group, true) }); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{
		"a": 0o440, "d/b": 0o640, "..data/d": os.ModeDir | os.ModeSetgid | 0o755,
	} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

func TestNestedMounts(t *testing.T) {
	mounts := func(pairs ...string) []corev1.VolumeMount {
		var all []corev1.VolumeMount
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, corev1.VolumeMount{Name: pairs[i], MountPath: pairs[i+1]})
		}
		return all
	}
	tests := map[string]struct {
		mounts []corev1.VolumeMount
		want   []string
	}{
		"nothing within":                   {mounts: mounts("v", "/v", "w", "/w")},
		"another volume within":            {mounts: mounts("v", "/v/", "w", "/v/in/side"), want: []string{"in/side"}},
		"the outermost of two":             {mounts: mounts("v", "/v", "w", "/v/a", "x", "/v/a/b"), want: []string{"a"}},
		"a name that only begins the same": {mounts: mounts("v", "/v", "w", "/vw")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := &corev1.PodSpec{Containers: []corev1.Container{{VolumeMounts: tt.mounts}}}
			if diff := cmp.Diff(tt.want, nestedMounts(spec, "v")); diff != "" {
				t.Errorf("paths (-want +got):\n%s", diff)
			}
		})
	}
}
