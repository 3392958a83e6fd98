package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAClusterWhoseFilesWereRemovedIsStillKnown(t *testing.T) {
	l := Layout{Data: filepath.Join(t.TempDir(), "data"), Run: t.TempDir()}
	if err := errors.Join(os.Mkdir(l.Data, 0o755), (&upper{layout: l}).claimMachine()); err != nil {
		t.Fatal(err)
	}
	want := settings()
	if err := errors.Join(want.write(l.settingsFile()), want.write(l.settingsCopy())); err != nil {
		t.Fatal(err)
	}
	if lost, err := l.lost(); lost || err != nil {
		t.Errorf("with its files it is lost: %v, %v", lost, err)
	}
	if err := os.RemoveAll(l.Data); err != nil {
		t.Fatal(err)
	}
	if err := l.checkNotLost(); err == nil || !strings.Contains(err.Error(), "keelson down --data-dir "+l.Data) {
		t.Errorf("up says %v", err)
	}
	got, known, err := knownSettings(l)
	if err != nil || !known {
		t.Fatalf("down knows the settings: %v, %v", known, err)
	}
	if diff := cmp.Diff(want, got, compareAddr); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestDownKnowsASettingsFileThatWasDamaged(t *testing.T) {
	l := Layout{Data: t.TempDir(), Run: t.TempDir()}
	if err := errors.Join((&upper{layout: l}).claimMachine(), settings().write(l.settingsCopy()), os.WriteFile(l.settingsFile(), []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	got, known, err := knownSettings(l)
	if err != nil || !known {
		t.Fatalf("with a copy: %v, %v", known, err)
	}
	if diff := cmp.Diff(settings(), got, compareAddr); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if err := os.Remove(l.settingsCopy()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := knownSettings(l); err == nil || !strings.Contains(err.Error(), l.settingsFile()) {
		t.Errorf("without a copy: %v", err)
	}
}

func TestFlagsThatARunningClusterCannotTake(t *testing.T) {
	s := settings()
	for name, tt := range map[string]struct {
		options Options
		want    []string
	}{
		"none":          {},
		"the same":      {options: Options{NodeIP: s.NodeIP.String(), DNS: new(true)}},
		"no DNS":        {options: Options{DNS: new(false)}, want: []string{"--dns: the cluster runs with true", "--keep-data"}},
		"all different": {options: Options{NodeIP: "10.0.0.9", NoFsync: true}, want: []string{"--node-ip", "--unsafe-no-fsync", "--keep-data"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := sameWhileRunning(s, tt.options)
			if (err != nil) != (len(tt.want) > 0) {
				t.Fatalf("error %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v lacks %q", err, want)
				}
			}
		})
	}
}

func TestAFullDiskIsRefused(t *testing.T) {
	l := Layout{Data: t.TempDir()}
	if err := l.checkSpace(1); err != nil {
		t.Errorf("one byte: %v", err)
	}
	if err := l.checkSpace(1 << 62); err == nil || !strings.Contains(err.Error(), "--data-dir: only") {
		t.Errorf("more than any disk has: %v", err)
	}
}

func TestForgetRemovesOnlyWhatCameToNothing(t *testing.T) {
	tests := map[string]struct {
		files    []func(Layout) string
		tenant   func(Layout) string
		wantData []string
		wantRun  []string
	}{
		"nothing but the lock": {files: []func(Layout) string{Layout.commandLock}},
		"a machine claimed for nothing": {
			files: []func(Layout) string{Layout.commandLock}, tenant: func(l Layout) string { return l.Data },
		},
		"the machine is another's": {
			files: []func(Layout) string{Layout.commandLock}, tenant: func(Layout) string { return "/other" }, wantRun: []string{"data-dir"},
		},
		"somebody's own files": {
			files:    []func(Layout) string{Layout.commandLock, func(l Layout) string { return filepath.Join(l.Data, "notes") }},
			wantData: []string{"notes"},
		},
		"a cluster": {
			files: []func(Layout) string{Layout.commandLock, Layout.settingsFile}, tenant: func(l Layout) string { return l.Data },
			wantData: []string{"cluster.json", "command.lock"}, wantRun: []string{"data-dir"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			l := Layout{Data: filepath.Join(root, "data"), Run: filepath.Join(root, "run")}
			if err := errors.Join(os.Mkdir(l.Data, 0o755), os.Mkdir(l.Run, 0o755)); err != nil {
				t.Fatal(err)
			}
			for _, file := range tt.files {
				if err := os.WriteFile(file(l), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if tt.tenant != nil {
				if err := os.WriteFile(l.tenantFile(), []byte(tt.tenant(l)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.forget(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.wantData, namesIn(t, l.Data)); diff != "" {
				t.Errorf("data directory (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.wantRun, namesIn(t, l.Run)); diff != "" {
				t.Errorf("run directory (-want +got):\n%s", diff)
			}
		})
	}
}

// namesIn lists a folder: nil when there is none.
func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A second cluster that is refused must not take what the first one needs to be ended.
func TestARefusedClusterLeavesTheOthersSettings(t *testing.T) {
	run := t.TempDir()
	first, second := Layout{Data: filepath.Join(t.TempDir(), "first"), Run: run}, Layout{Data: filepath.Join(t.TempDir(), "second"), Run: run}
	if err := errors.Join(os.Mkdir(first.Data, 0o755), os.Mkdir(second.Data, 0o755), (&upper{layout: first}).claimMachine(), settings().write(first.settingsCopy())); err != nil {
		t.Fatal(err)
	}
	if err := (&upper{layout: second}).makeReady(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "one at a time") {
		t.Errorf("a second cluster: %v", err)
	}
	if _, known, err := readSettings(first.settingsCopy()); !known || err != nil {
		t.Errorf("the first one's settings are known: %t, %v", known, err)
	}
}
