package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keelson-dev/keelson/cluster/internal/systemd"
)

func TestTheServiceStartsWhatUpWouldStart(t *testing.T) {
	t.Setenv("KUBEBUILDER_ASSETS", "/opt/k8s")
	t.Setenv("GOGC", "")
	o := NewOptions()
	o.NodeIP, o.NoFsync = "192.0.2.1", true
	text := unit(layoutIn("/data"), "/opt/bin/keelson", *o).Render()
	for _, want := range []string{
		"# Written by keelson up --systemd for /data\n", "# 'keelson down' removes it.", "WantedBy=multi-user.target", "Type=notify",
		`ExecStart="/opt/bin/keelson" "supervise" "--data-dir=/data" "--run-dir=/run/keelson" "--as-service" "--node-ip=192.0.2.1" "--unsafe-no-fsync"` + "\n",
		`Environment="KUBEBUILDER_ASSETS=/opt/k8s"` + "\n", "EnvironmentFile=-/etc/default/keelson\n", "TimeoutStopSec=120",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "GOGC") {
		t.Errorf("a variable that is not set:\n%s", text)
	}
}

func TestTheServiceIsRemembered(t *testing.T) {
	o := NewOptions()
	o.Systemd = true
	s, err := decideSettings(nil, *o, layoutIn("/data"), quiet())
	if err != nil || !s.Systemd {
		t.Fatalf("up --systemd: %t, %v", s.Systemd, err)
	}
	if again, err := decideSettings(&s, *NewOptions(), layoutIn("/data"), quiet()); err != nil || !again.Systemd {
		t.Errorf("the next up: %t, %v", again.Systemd, err)
	}
}

// A machine without systemd is refused before anything is made, also its folder.
func TestAMachineWithoutSystemdIsLeftAlone(t *testing.T) {
	o := NewOptions()
	o.systemd = systemd.Manager{Booted: filepath.Join(t.TempDir(), "none"), Units: t.TempDir()}
	err := o.systemd.Check(unit(layoutIn("/data"), "/opt/bin/keelson", *o), "keelson up --data-dir /data")
	if err == nil || !strings.Contains(err.Error(), "'keelson up --data-dir /data' at boot") {
		t.Errorf("error %v", err)
	}
}

// The service would start what down ends.
func TestDownRemovesTheService(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, as down does")
	}
	for what, ours := range map[string]bool{"that of the folder": true, "that of another folder": false} {
		o := NewOptions()
		o.DataDir, o.RunDir = filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "run")
		o.systemd = systemd.Manager{Booted: filepath.Join(t.TempDir(), "none"), Units: t.TempDir()}
		l, err := newLayout(o.DataDir, o.RunDir)
		if err != nil {
			t.Fatal(err)
		}
		of := l
		if !ours {
			of.Data += "-2"
		}
		file := o.systemd.File(unitName)
		if err := errors.Join(os.Mkdir(l.Data, 0o700), os.WriteFile(file, []byte(unit(of, "/opt/bin/keelson", *o).Render()), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := Down(t.Context(), *o, t.Output()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) != ours {
			t.Errorf("%s: after down the unit is: %v", what, err)
		}
	}
}

func TestTheServiceTakesOverOnlyWhatIsThere(t *testing.T) {
	o := NewOptions()
	o.DataDir, o.RunDir, o.AsService = t.TempDir(), t.TempDir(), true
	if err := Supervise(t.Context(), *o); err == nil || !strings.Contains(err.Error(), "holds no cluster: start one with 'keelson up'") {
		t.Errorf("an empty folder: %v", err)
	}
}
