package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeSystemctl does what enabling and disabling do to files, writes down how it was
// called, and fails for the verb in the file "fail".
const fakeSystemctl = `#!/bin/sh
echo "$*" >> "$FAKE/calls"
if [ "$1" = "$(cat "$FAKE/fail" 2>/dev/null)" ]; then echo "Access denied" >&2; exit 4; fi
link="$FAKE/units/multi-user.target.wants/keelson-node.service"
case "$1" in
enable) [ -f "$FAKE/units/$2" ] || exit 5; mkdir -p "$(dirname "$link")"; ln -sf "$FAKE/units/$2" "$link" ;;
disable) rm -f "$link" ;;
show) echo $PPID ;;
esac
`

// unitName is that of fakeSystemctl.
const unitName = "keelson-node.service"

type fakeMachine struct {
	Manager
	dir    string
	folder string
}

// unit is the service of a program for the machine's folder.
func (m *fakeMachine) unit(self string) Unit { return testUnit(m.folder, self) }

func testUnit(folder, self string) Unit {
	return Unit{Name: unitName, Description: "A test", Folder: folder, Writer: "keelson test", Remover: "keelson end",
		Program: self, Args: []string{"supervise", "--data-dir=" + folder}, Environment: []string{`A=1% "b" $C`}, StopSeconds: 90}
}

func newFakeMachine(t *testing.T) *fakeMachine {
	t.Helper()
	m := &fakeMachine{dir: t.TempDir(), folder: filepath.Join(t.TempDir(), "100% node")}
	m.Manager = Manager{Booted: filepath.Join(m.dir, "booted"), Units: filepath.Join(m.dir, "units")}
	bin := filepath.Join(m.dir, "bin")
	for _, dir := range []string{m.Booted, m.Units, bin} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.write(t, filepath.Join(bin, "systemctl"), fakeSystemctl, 0o755)
	t.Setenv("FAKE", m.dir)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return m
}

func (m *fakeMachine) write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// calls are those since the last look.
func (m *fakeMachine) calls(t *testing.T) []string {
	t.Helper()
	file := filepath.Join(m.dir, "calls")
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func (m *fakeMachine) enabled() bool {
	_, err := os.Stat(m.wantsLink(unitName)) // through the link
	return err == nil
}

var (
	installing = []string{"daemon-reload", "enable keelson-node.service", "start keelson-node.service"}
	removing   = []string{"disable --now keelson-node.service", "daemon-reload"}
)

func TestTheServiceIsInstalledAndRemovedFromAnyState(t *testing.T) {
	const self = "/opt/keelson/bin/keelson"
	for name, c := range map[string]struct {
		before func(t *testing.T, m *fakeMachine)
		// wantRemoving are the calls of a removal from that state.
		wantRemoving []string
	}{
		"nothing was done": {func(*testing.T, *fakeMachine) {}, nil},
		"the unit was written and not enabled": {func(t *testing.T, m *fakeMachine) {
			m.write(t, m.File(unitName), m.unit(self).Render(), 0o644)
		}, removing},
		"the unit is that of a program elsewhere": {func(t *testing.T, m *fakeMachine) {
			m.write(t, m.File(unitName), m.unit("/usr/local/bin/keelson").Render(), 0o644)
		}, removing},
		"it was enabled and not started": {func(t *testing.T, m *fakeMachine) {
			m.write(t, m.File(unitName), m.unit(self).Render(), 0o644)
			if _, err := systemctl(t.Context(), "enable", unitName); err != nil {
				t.Fatal(err)
			}
		}, removing},
		"the unit was removed by hand, and its link was left": {func(t *testing.T, m *fakeMachine) {
			if err := os.MkdirAll(filepath.Dir(m.wantsLink(unitName)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(m.File(unitName), m.wantsLink(unitName)); err != nil {
				t.Fatal(err)
			}
		}, []string{"daemon-reload"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, alsoInstall := range []bool{false, true} {
				m := newFakeMachine(t)
				c.before(t, m)
				m.calls(t)
				want := c.wantRemoving
				if alsoInstall {
					want = removing
					if err := m.Install(t.Context(), m.unit(self)); err != nil {
						t.Fatal(err)
					}
					text, err := os.ReadFile(m.File(unitName))
					if err != nil || string(text) != m.unit(self).Render() || !m.enabled() {
						t.Errorf("enabled: %t, %v; the unit is\n%s", m.enabled(), err, text)
					}
					if diff := cmp.Diff(installing, m.calls(t)); diff != "" {
						t.Errorf("calls (-want +got):\n%s", diff)
					}
				}
				if err := m.Remove(t.Context(), m.unit("/bin/keelson")); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, m.calls(t)); diff != "" {
					t.Errorf("removing, installed before: %t: calls (-want +got):\n%s", alsoInstall, diff)
				}
				for _, path := range []string{m.File(unitName), m.wantsLink(unitName)} {
					if _, err := os.Lstat(path); err == nil {
						t.Errorf("%s is left", path)
					}
				}
			}
		})
	}
}

func TestAForeignServiceIsNotTouched(t *testing.T) {
	m := newFakeMachine(t)
	for name, text := range map[string]string{
		"somebody's":       "[Service]\nExecStart=/bin/true\n",
		"another folder's": testUnit(m.folder+"/deeper", "/bin/keelson").Render(),
	} {
		m.write(t, m.File(unitName), text, 0o644)
		if err := m.Check(m.unit("/bin/keelson"), "keelson test --data-dir "+m.folder); err == nil || !strings.Contains(err.Error(), "is there already") {
			t.Errorf("%s: check: %v", name, err)
		}
		if err := m.Remove(t.Context(), m.unit("/bin/keelson")); err != nil {
			t.Errorf("%s: remove: %v", name, err)
		}
		if got, err := os.ReadFile(m.File(unitName)); err != nil || string(got) != text || m.calls(t) != nil {
			t.Errorf("%s: the unit is %q, %v", name, got, err)
		}
	}
}

func TestMachinesWithoutSystemdAreRefusedBeforeAnything(t *testing.T) {
	m := newFakeMachine(t)
	if err := m.Check(m.unit("/bin/keelson"), "keelson test --data-dir "+m.folder); err != nil {
		t.Errorf("systemd runs: %v", err)
	}
	t.Setenv("PATH", filepath.Join(m.dir, "units"))
	if err := m.Check(m.unit("/bin/keelson"), "keelson test --data-dir "+m.folder); err == nil || !strings.Contains(err.Error(), "systemctl cannot be found") {
		t.Errorf("without systemctl: %v", err)
	}
	if err := m.Check(m.unit(`/opt/"keelson"`), "keelson test --data-dir "+m.folder); err == nil || !strings.Contains(err.Error(), "quotation marks") {
		t.Errorf("a path that systemd does not take: %v", err)
	}
	if err := os.Remove(m.Booted); err != nil {
		t.Fatal(err)
	}
	err := m.Check(m.unit("/bin/keelson"), "keelson test --data-dir "+m.folder)
	for _, part := range []string{"--systemd: systemd does not run", m.Booted, "'keelson test --data-dir " + m.folder + "' at boot"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v; want %q in it", err, part)
		}
	}
}

// TestTheServiceGoesWithoutSystemd is a machine that was booted by another init since.
func TestTheServiceGoesWithoutSystemd(t *testing.T) {
	m := newFakeMachine(t)
	if err := m.Install(t.Context(), m.unit("/bin/keelson")); err != nil {
		t.Fatal(err)
	}
	m.calls(t)
	if err := os.Remove(m.Booted); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(t.Context(), m.unit("/bin/keelson")); err != nil || m.enabled() || m.calls(t) != nil {
		t.Errorf("%v, enabled: %t", err, m.enabled())
	}
}

func TestWhatSystemctlSaysIsPassedOn(t *testing.T) {
	m := newFakeMachine(t)
	for verb, do := range map[string]func() error{
		"start":   func() error { return m.Install(t.Context(), m.unit("/bin/keelson")) },
		"disable": func() error { return m.Remove(t.Context(), m.unit("/bin/keelson")) },
	} {
		m.write(t, m.File(unitName), m.unit("/bin/keelson").Render(), 0o644)
		m.write(t, filepath.Join(m.dir, "fail"), verb, 0o644)
		if err := do(); err == nil || !strings.Contains(err.Error(), "systemctl "+verb) || !strings.Contains(err.Error(), "Access denied") {
			t.Errorf("%s: error %v", verb, err)
		}
		if _, err := os.Stat(m.File(unitName)); err != nil {
			t.Errorf("%s: the unit is gone, so that the command cannot be run again: %v", verb, err)
		}
	}
}

// TestSystemdReadsTheUnit lets systemd's own reader judge, where it is installed.
func TestSystemdReadsTheUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze on this machine")
	}
	dir := t.TempDir()
	self := filepath.Join(dir, `a $HOME %n b`)
	unit := filepath.Join(dir, unitName)
	u := testUnit(filepath.Join(dir, `data $X "%i"`), self)
	for path, text := range map[string]string{self: "#!/bin/sh\n", unit: u.Render()} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(unit, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), unitName) {
		t.Errorf("%v\n%s\n%s", err, out, u.Render())
	}
}

func TestWordsOfAUnitAreQuoted(t *testing.T) {
	for word, want := range map[string]string{
		"/usr/bin/keelson": `"/usr/bin/keelson"`,
		"/a b/100%":        `"/a b/100%%"`,
		`/$HOME/"x"\`:      `"/$$HOME/\"x\"\\"`,
	} {
		if got := quoteWord(word); got != want {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
	}
}
