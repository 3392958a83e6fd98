package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/cluster/internal/process"
)

// The test binary plays the supervised programs and, where a supervisor has to be
// killed, the supervisor.
const (
	envRole   = "KEELSON_TEST_ROLE"
	envFolder = "KEELSON_TEST_FOLDER"
)

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "":
		os.Exit(m.Run())
	case "steady":
		playSteady()
	case "stubborn":
		playStubborn()
	case "crash":
		fmt.Println("crashing")
		os.Exit(3)
	case "supervisor":
		playSupervisor()
	}
}

// playSteady runs until TERM and notes its end in a common file, so that tests see
// the order of ends.
func playSteady() {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	fmt.Println("steady")
	<-terminated
	f, err := os.OpenFile(filepath.Join(os.Getenv(envFolder), "ends"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getenv("KEELSON_COMPONENT"))
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// playStubborn takes every TERM and goes on. It waits on the signal, because a Go
// program in which nothing can ever wake up is ended by its runtime.
func playStubborn() {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	fmt.Println("ignoring TERM")
	for range terminated {
	}
}

func playSupervisor() {
	folder := os.Getenv(envFolder)
	o := optionsIn(folder, program("first", "steady", folder), program("second", "steady", folder, "first"))
	if err := Run(context.Background(), o); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func optionsIn(folder string, components ...Component) Options {
	return Options{
		Components: components, Owner: folder, LogDir: filepath.Join(folder, "logs"),
		StateFile: filepath.Join(folder, "state.json"), LockFile: filepath.Join(folder, "lock"), Clock: clock.RealClock{},
	}
}

func program(name, role, folder string, dependsOn ...string) Component {
	return Component{
		Name: name, DependsOn: dependsOn, StopTimeout: 5 * time.Second,
		Command: &Command{Path: "/proc/self/exe", Env: []string{envRole + "=" + role, envFolder + "=" + folder}},
	}
}

func executables(t *testing.T) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{filepath.Base(exe)}
}

// running is a supervisor under test, in this process.
type running struct {
	t       *testing.T
	options Options
	stop    func() error
}

func run(t *testing.T, o Options) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- Run(ctx, o) }()
	stop := sync.OnceValue(func() error { cancel(); return <-result })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		if _, err := EndLeftovers(context.Background(), o.Owner, nil, executables(t)); err != nil {
			t.Error(err)
		}
	})
	return &running{t: t, options: o, stop: stop}
}

// until waits for the published state to satisfy cond.
func (r *running) until(what string, cond func(State) bool) State {
	r.t.Helper()
	return until(r.t, r.options.StateFile, what, cond)
}

func until(t *testing.T, file, what string, cond func(State) bool) State {
	t.Helper()
	var state State
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		s, ok, err := ReadState(file)
		if err != nil {
			t.Fatal(err)
		}
		if state = s; ok && cond(s) {
			return s
		}
	}
	t.Fatalf("never %s; last state: %+v", what, state)
	return State{}
}

func (s State) get(name string) ComponentState {
	return s.Components[slices.IndexFunc(s.Components, func(c ComponentState) bool { return c.Name == name })]
}

func ends(t *testing.T, folder string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, "ends"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

func TestStopsDependentsFirst(t *testing.T) {
	dir := t.TempDir()
	r := run(t, optionsIn(dir,
		program("a", "steady", dir), program("b", "steady", dir, "a"), program("c", "steady", dir, "b")))
	r.until("ready", State.AllReady)
	waitForLogs(t, r.options, "steady", "a", "b", "c")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"c", "b", "a"}, ends(t, dir)); diff != "" {
		t.Errorf("order of ends (-want +got):\n%s", diff)
	}
	if found, err := process.Find(dir, executables(t)); err != nil || len(found) > 0 {
		t.Errorf("left behind: %v, %v", found, err)
	}
}

// waitForLogs waits until the programs have set up their signal handlers, which
// is when they print.
func waitForLogs(t *testing.T, o Options, text string, components ...string) {
	t.Helper()
	for _, c := range components {
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			data, err := os.ReadFile(LogFile(o.LogDir, c))
			if err == nil && strings.Contains(string(data), text) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("log of %s never held %q: %q, %v", c, text, data, err)
			}
		}
	}
}

func TestKilledProgramIsBackWithinASecond(t *testing.T) {
	dir := t.TempDir()
	r := run(t, optionsIn(dir, program("a", "steady", dir)))
	before := r.until("ready", State.AllReady).get("a")
	killedAt := time.Now()
	if err := unix.Kill(before.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	after := r.until("back", func(s State) bool { return s.get("a").Starts == 2 && s.AllReady() }).get("a")
	if took := time.Since(killedAt); took > time.Second {
		t.Errorf("took %v", took)
	}
	if after.PID == before.PID || after.PID == 0 {
		t.Errorf("pid before %d, after %d", before.PID, after.PID)
	}
}

func TestCrashLoopIsReportedWithItsReason(t *testing.T) {
	dir := t.TempDir()
	crashing := program("a", "crash", dir)
	crashing.Ready = func(context.Context) error { return errors.New("not answering") }
	r := run(t, optionsIn(dir, crashing, program("b", "steady", dir, "a")))
	s := r.until("in its third start", func(s State) bool { return s.get("a").Starts >= 3 && s.get("a").Phase == BackingOff })
	if got := s.get("a").Message; got != "ended: exit status 3: crashing" {
		t.Errorf("message %q", got)
	}
	if got := s.get("b"); got.Phase != Waiting || got.Message != "waits for a" || got.Starts != 0 {
		t.Errorf("dependent: %+v", got)
	}
}

func TestMissingProgramIsReported(t *testing.T) {
	dir := t.TempDir()
	c := program("a", "steady", dir)
	c.Command.Path = "/does/not/exist"
	r := run(t, optionsIn(dir, c))
	s := r.until("reported", func(s State) bool { return s.get("a").Phase == BackingOff })
	if !strings.Contains(s.get("a").Message, "/does/not/exist") {
		t.Errorf("message %q", s.get("a").Message)
	}
}

func TestReadinessGatesDependentsAndSaysWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	var listener net.Listener
	var mu sync.Mutex
	slow := program("a", "steady", dir)
	slow.Ready = func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if listener == nil {
			return errors.New("nobody listens yet")
		}
		return nil
	}
	r := run(t, optionsIn(dir, slow, program("b", "steady", dir, "a")))
	s := r.until("waiting", func(s State) bool { return s.get("a").Message == "nobody listens yet" })
	if s.get("b").Starts != 0 {
		t.Error("the dependent started before")
	}
	mu.Lock()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	listener = l
	mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if s := r.until("ready", State.AllReady); s.get("a").FirstReady == nil {
		t.Error("no time of readiness")
	}
}

func TestTaskIsTriedUntilItSucceedsThenLeftAlone(t *testing.T) {
	dir := t.TempDir()
	calls := make(chan int, 10)
	n := 0
	task := Component{Name: "task", Task: func(context.Context) error {
		n++
		calls <- n
		if n < 3 {
			return fmt.Errorf("try %d failed", n)
		}
		return nil
	}}
	r := run(t, optionsIn(dir, task, program("b", "steady", dir, "task")))
	r.until("ready", State.AllReady)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if len(calls) != 3 {
		t.Errorf("%d calls, want 3", len(calls))
	}
}

func TestConditionIsWaitedForOnce(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	holds, asked := false, 0
	condition := Component{Name: "condition", Ready: func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if !holds {
			return errors.New("not yet")
		}
		return nil
	}}
	r := run(t, optionsIn(dir, condition, program("b", "steady", dir, "condition")))
	s := r.until("waiting", func(s State) bool { return s.get("condition").Message == "not yet" })
	if s.get("b").Starts != 0 {
		t.Error("the dependent started before")
	}
	mu.Lock()
	holds, asked = true, 0
	mu.Unlock()
	r.until("ready", State.AllReady)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if asked != 1 {
		t.Errorf("asked %d times after it held", asked)
	}
}

func TestStubbornProgramIsKilled(t *testing.T) {
	dir := t.TempDir()
	c := program("a", "stubborn", dir)
	c.StopTimeout = 100 * time.Millisecond
	r := run(t, optionsIn(dir, c))
	s := r.until("ready", State.AllReady)
	waitForLogs(t, r.options, "ignoring TERM", "a")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := process.Of(s.get("a").PID); err == nil {
		t.Error("it still runs")
	}
}

func TestSecondSupervisorIsRefused(t *testing.T) {
	dir := t.TempDir()
	r := run(t, optionsIn(dir, program("a", "steady", dir)))
	r.until("ready", State.AllReady)
	if err := Run(t.Context(), r.options); !errors.Is(err, ErrRunning) {
		t.Errorf("got %v", err)
	}
}

func TestLeaveKeepsTheProgramRunning(t *testing.T) {
	dir := t.TempDir()
	c := program("a", "steady", dir)
	c.Leave = true
	r := run(t, optionsIn(dir, c))
	r.until("ready", State.AllReady)
	waitForLogs(t, r.options, "steady", "a")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	names, err := EndLeftovers(t.Context(), dir, nil, executables(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a"}, names); diff != "" {
		t.Errorf("left running (-want +got):\n%s", diff)
	}
}

func TestChildrenOfAKilledSupervisorAreTakenOver(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envRole+"=supervisor", envFolder+"="+dir)
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o := optionsIn(dir)
	before := until(t, o.StateFile, "ready", State.AllReady)
	waitForLogs(t, o, "steady", "first", "second")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the supervisor was not killed")
	}
	if _, ok, err := ReadState(o.StateFile); ok || err != nil {
		t.Errorf("the dead supervisor counts as running: %v, %v", ok, err)
	}
	for _, name := range []string{"first", "second"} {
		if _, err := process.Of(before.get(name).PID); err != nil {
			t.Errorf("%s did not survive: %v", name, err)
		}
	}
	names, err := EndLeftovers(t.Context(), dir, []string{"first", "second"}, executables(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"second", "first"}, names); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"second", "first"}, ends(t, dir)); diff != "" {
		t.Errorf("order of ends (-want +got):\n%s", diff)
	}
	r := run(t, optionsIn(dir, program("first", "steady", dir)))
	r.until("ready again", State.AllReady)
}

func TestLeftoversOfOthersAreNotTouched(t *testing.T) {
	mine, other := t.TempDir(), t.TempDir()
	r := run(t, optionsIn(other, program("a", "steady", other)))
	r.until("ready", State.AllReady)
	names, err := EndLeftovers(t.Context(), mine, nil, executables(t))
	if err != nil || len(names) > 0 {
		t.Errorf("ended %v, %v", names, err)
	}
}

func TestRotateIfLarge(t *testing.T) {
	tests := map[string]struct {
		content, wantLog, wantOld string
	}{
		"a small log stays":       {content: "12345", wantLog: "12345"},
		"a large one is moved on": {content: "1234567890+", wantLog: "", wantOld: "1234567890+"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.log")
			writer, err := openLog(path)
			if err != nil {
				t.Fatal(err)
			}
			defer writer.Close()
			write := func(s string) {
				if _, err := writer.WriteString(s); err != nil {
					t.Fatal(err)
				}
			}
			write(tt.content)
			if err := rotateIfLarge(path, 10); err != nil {
				t.Fatal(err)
			}
			write("!")
			if got, err := os.ReadFile(path); err != nil || string(got) != tt.wantLog+"!" {
				t.Errorf("log %q, %v", got, err)
			}
			old, err := os.ReadFile(path + ".1")
			if string(old) != tt.wantOld {
				t.Errorf("old log %q, %v", old, err)
			}
		})
	}
}

func TestComponentsAreChecked(t *testing.T) {
	err := checkComponents([]Component{
		{Name: "a", DependsOn: []string{"b"}, Command: &Command{}},
		{Name: "b"},
		{Name: "b", Command: &Command{}, Task: func(context.Context) error { return nil }},
	})
	for _, want := range []string{"a depends on b, which does not come before it", "b is there twice", "b needs a command, a task or a condition"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

func TestLastLine(t *testing.T) {
	tests := map[string]struct {
		log    string
		beyond int64
		want   string
	}{
		"nothing written":               {},
		"the last of several":           {log: "a\nb\nwhy\n\n", want: "why"},
		"a panic rather than its stack": {log: "a\npanic: no space\n\ngoroutine 1:\n\tmain.go:1\n", want: "panic: no space"},
		"only an earlier run wrote":     {log: "old\n", beyond: 4},
		"not the earlier run's":         {log: "old\nnew", beyond: 4, want: "new"},
		"cut since the start":           {log: "new", beyond: 1000, want: "new"},
		"a line too long to tell":       {log: strings.Repeat("x", 2*maxLastLine), want: strings.Repeat("x", maxLastLine) + "…"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, []byte(tt.log), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := lastLine(path, tt.beyond); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
