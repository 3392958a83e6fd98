package containerd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/nodeagent/logs"
)

func TestCapabilities(t *testing.T) {
	all := []string{"CAP_CHOWN", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"}
	tests := map[string]struct {
		add, drop []string
		want      []string
	}{
		"nothing asked for":         {nil, nil, capabilities},
		"one more, as in a Pod":     {[]string{"SYS_PTRACE"}, nil, append(slices.Clone(capabilities), "CAP_SYS_PTRACE")},
		"one that is there":         {[]string{"cap_chown"}, nil, capabilities},
		"all of this process":       {[]string{"ALL"}, nil, all},
		"all but one":               {[]string{"all"}, []string{"SYS_ADMIN"}, []string{"CAP_CHOWN", "CAP_SYS_PTRACE"}},
		"none":                      {nil, []string{"ALL"}, nil},
		"one alone":                 {[]string{"NET_BIND_SERVICE"}, []string{"ALL"}, []string{"CAP_NET_BIND_SERVICE"}},
		"dropping wins over adding": {[]string{"SYS_PTRACE"}, []string{"SYS_PTRACE"}, capabilities},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, computeCapabilities(test.add, test.drop, all)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestExecProcessIsTheContainersWithAnotherCommand(t *testing.T) {
	container := &specs.Process{Args: []string{"main"}, Env: []string{"A=b", "TERM=dumb"}, Cwd: "/w", User: specs.User{UID: 7}, Terminal: true}
	got := execProcess(container, []string{"ls"}, false)
	want := &specs.Process{Args: []string{"ls"}, Env: []string{"A=b", "TERM=dumb"}, Cwd: "/w", User: specs.User{UID: 7}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := execProcess(container, []string{"ls"}, true); !got.Terminal || !slices.Contains(got.Env, "TERM=xterm") || slices.Contains(got.Env, "TERM=dumb") {
		t.Errorf("on a terminal: %+v", got)
	}
}

func TestEntriesOfInteractiveOutput(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 5, time.UTC)
	const stamp = "2026-11-21T12:00:00.000000005Z "
	tests := map[string]struct {
		pieces []string
		want   string
	}{
		"lines":                       {[]string{"a\nb\n"}, stamp + "stdout F a\n" + stamp + "stdout F b\n"},
		"a prompt shows at once":      {[]string{"$ ", "ls\r\n"}, stamp + "stdout P $ \n" + stamp + "stdout F ls\r\n"},
		"an empty line":               {[]string{"\n"}, stamp + "stdout F \n"},
		"a line without an end":       {[]string{"a"}, stamp + "stdout P a\n" + stamp + "stdout F \n"},
		"a line longer than an entry": {[]string{strings.Repeat("x", logs.MaxLine+1) + "\n"}, stamp + "stdout P " + strings.Repeat("x", logs.MaxLine) + "\n" + stamp + "stdout F x\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "0.log")
			log := &logFile{path: path, clock: testingclock.NewFakePassiveClock(at)}
			stream := &logStream{log: log, name: "stdout"}
			for _, piece := range test.pieces {
				stream.write([]byte(piece))
			}
			stream.end()
			log.close()
			got, err := os.ReadFile(path)
			if diff := cmp.Diff(test.want, string(got)); err != nil || diff != "" {
				t.Errorf("error %v, -want +got:\n%s", err, diff)
			}
		})
	}
}

func TestInteractiveOutputThatCannotBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "later", "0.log")
	log := &logFile{path: path, clock: clock.RealClock{}}
	stream := &logStream{log: log, name: "stdout"}
	stream.write([]byte("lost\n"))
	stream.write([]byte("too\n"))
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	stream.write([]byte("kept\n"))
	log.close()
	text, err := logs.Tail(path, 10, 1000)
	if err != nil || !strings.HasPrefix(text, "keelson: 9 bytes of output were lost here: open ") || !strings.HasSuffix(text, "\nkept\n") {
		t.Errorf("log %q, %v", text, err)
	}
}
