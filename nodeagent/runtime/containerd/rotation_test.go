package containerd_test

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	testingclock "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/nodeagent/logrotate"
	"github.com/keelson-dev/keelson/nodeagent/logs"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/containerd"
)

// rotatorEnv tells TestRotatorVictim what to do; floodEnv is how often it is killed.
const (
	rotatorEnv = "KEELSON_TEST_ROTATOR"
	floodEnv   = "KEELSON_TEST_ROTATOR_KILLS"
)

type rotatorOrders struct {
	Options containerd.Options
	// Now is where the victim's clock begins: files are named by it.
	Now time.Time
	// MaxSize and MaxFiles replace those of rotator unless they are zero.
	MaxSize  int64
	MaxFiles int
	// Pause is the time between two rounds.
	Pause time.Duration
}

// rotator rotates everything that is larger than a few entries, again and again; its
// clock goes on by a second each time, because files are named by seconds.
func (f *fixture) rotator(r logrotate.Containers, now time.Time) (rotate func() error) {
	return rotatorOf(r, rotatorOrders{Now: now})
}

func rotatorOf(r logrotate.Containers, o rotatorOrders) (rotate func() error) {
	at := testingclock.NewFakeClock(o.Now)
	rotator := logrotate.New(logrotate.Options{Containers: r, MaxSize: cmp.Or(o.MaxSize, 4096), MaxFiles: cmp.Or(o.MaxFiles, 1<<20), Workers: 2, Clock: at})
	return func() error {
		at.Step(time.Second)
		return rotator.Rotate(context.Background())
	}
}

// TestRotatorVictim is no test: it is the agent that TestRotationOfAFlood kills. It says
// "rotated" after each round.
func TestRotatorVictim(t *testing.T) {
	text := os.Getenv(rotatorEnv)
	if text == "" {
		t.Skip("runs as a process of TestRotationOfAFlood")
	}
	var orders rotatorOrders
	if err := json.Unmarshal([]byte(text), &orders); err != nil {
		t.Fatal(err)
	}
	r, err := containerd.New(context.Background(), orders.Options)
	if err != nil {
		t.Fatal(err)
	}
	rotate := rotatorOf(r, orders)
	for {
		time.Sleep(orders.Pause)
		if err := rotate(); err != nil {
			fmt.Println("failed:", err)
			t.Fatal(err)
		}
		fmt.Println("rotated")
	}
}

// startVictim starts an agent that rotates, in a process of its own.
func (f *fixture) startVictim(now time.Time) (rounds *bufio.Reader, kill func()) {
	f.t.Helper()
	return f.startVictimWith(rotatorOrders{Now: now})
}

func (f *fixture) startVictimWith(o rotatorOrders) (rounds *bufio.Reader, kill func()) {
	f.t.Helper()
	o.Options = containerd.Options{Address: f.daemon.Address(), StateDir: f.stateDir, PauseBinary: f.pause(), LoggerBinary: f.logger()}
	orders, err := json.Marshal(o)
	f.must(err)
	victim := exec.Command(os.Args[0], "-test.run=^TestRotatorVictim$")
	victim.Env = append(os.Environ(), rotatorEnv+"="+string(orders))
	output, err := victim.StdoutPipe()
	f.must(err)
	f.must(victim.Start())
	return bufio.NewReader(output), func() {
		f.must(victim.Process.Signal(syscall.SIGKILL))
		_ = victim.Wait() // it was killed
	}
}

// wholeLog is the text of a log with everything that rotation has put aside.
func (f *fixture) wholeLog(path string) string {
	f.t.Helper()
	files, err := logs.Rotated(path)
	f.must(err)
	var text strings.Builder
	for _, file := range append(files, path) {
		if strings.HasSuffix(file, logs.TemporarySuffix) || slices.Contains(files, file+logs.CompressedSuffix) {
			continue // of a compression that was killed
		}
		data, err := os.ReadFile(file)
		f.must(err)
		if strings.HasSuffix(file, logs.CompressedSuffix) {
			unpacked, err := gzip.NewReader(bytes.NewReader(data))
			f.must(err)
			data, err = io.ReadAll(unpacked)
			f.must(err)
		}
		for line := range strings.Lines(string(data)) {
			fields := strings.SplitN(line, " ", 4)
			if len(fields) != 4 {
				f.t.Fatalf("%s: bad line %q", file, line)
			}
			if fields[2] == "P" {
				fields[3] = strings.TrimSuffix(fields[3], "\n")
			}
			text.WriteString(fields[3])
		}
	}
	return text.String()
}

// checkCounted checks that text counts from 1 and then says "end".
func (f *fixture) checkCounted(what, text string) {
	f.t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines[:len(lines)-1] {
		if line != strconv.Itoa(i+1) {
			f.t.Fatalf("%s: line %d of %d is %q", what, i+1, len(lines), line)
		}
	}
	if last := lines[len(lines)-1]; last != "end" {
		f.t.Fatalf("%s ends with %q", what, last)
	}
	f.t.Logf("%s: %d lines", what, len(lines))
}

// counting is a script that counts as fast as it can until the returned function is
// called, and the mount that it needs.
func (f *fixture) counting() (string, runtime.Mount, func()) {
	dir := f.t.(*testing.T).TempDir()
	script := "i=0; while [ ! -e /flags/end ]; do seq $((i+1)) $((i+20000)); i=$((i+20000)); done; echo end; sleep 1000"
	return script, runtime.Mount{HostPath: dir, ContainerPath: "/flags"}, func() {
		f.must(os.WriteFile(filepath.Join(dir, "end"), nil, 0o600))
	}
}

func (f *fixture) logSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// TestRotationOfAFlood: a container talks as fast as it can while the agent that rotates
// its log is killed at any instant, and started again. Nothing is lost, the container
// never waits for an agent, and a reader that follows sees everything once.
func TestRotationOfAFlood(t *testing.T) {
	kills := 6
	if text := os.Getenv(floodEnv); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	f := newFixture(t)
	p := f.newPod()
	script, mount, end := f.counting()
	config := p.config("flood", "sh", "-c", script)
	config.Mounts = []runtime.Mount{mount}
	id := p.run(config)

	var followed bytes.Buffer
	ended, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- logs.Read(context.Background(), config.LogPath, logs.Options{Follow: true, Ended: ended}, logs.Output{Stdout: &followed})
	}()

	started := time.Now()
	for i := range kills {
		rounds, kill := f.startVictim(started.Add(time.Duration(i) * time.Hour))
		for range 1 + i%3 { // somewhere in the round after these
			if line, err := rounds.ReadString('\n'); err != nil || line != "rotated\n" {
				t.Fatalf("the victim said %q, %v", line, err)
			}
		}
		time.Sleep(time.Duration(i*i%7) * time.Millisecond) // another place each time
		kill()
		// The writer may have been told or not: it goes on either way.
		files, err := logs.Rotated(config.LogPath)
		f.must(err)
		writing := func() int64 {
			sum := f.logSize(config.LogPath)
			for _, file := range files {
				sum += f.logSize(file)
			}
			return sum
		}
		before := writing()
		f.eventually("the container talks on without an agent", func() bool { return writing() > before+1<<16 })
	}
	end()
	rotate := f.rotator(f.Runtime, started.Add(time.Duration(kills)*time.Hour))
	f.eventually("the last words are in the log", func() bool {
		f.must(rotate()) // a log that was renamed by the last victim gets its successor
		return strings.HasSuffix(f.wholeLog(config.LogPath), "\nend\n")
	})
	f.checkCounted("the log", f.wholeLog(config.LogPath))
	close(ended)
	f.must(<-done)
	f.checkCounted("what was followed", followed.String())
	f.must(f.StopContainer(t.Context(), id, 0))
}

func TestRotationOfAnInteractiveContainer(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	script, mount, end := f.counting()
	id := p.interactive("talks", func(c *runtime.ContainerConfig) { c.Mounts = []runtime.Mount{mount} }, "sh", "-c", script)
	path := p.container(id).LogPath
	now := time.Now()
	for i := range 3 {
		rotate := f.rotator(f.Runtime, now.Add(time.Duration(i)*time.Hour))
		for range 3 {
			size := f.logSize(path)
			f.eventually("it talks", func() bool { return f.logSize(path) > size+1<<14 })
			f.must(rotate())
		}
		f.restartAgent() // its output waits meanwhile
	}
	end()
	f.eventually("the last words are in the log", func() bool { return strings.HasSuffix(f.wholeLog(path), "\nend\n") })
	f.checkCounted("the log", f.wholeLog(path))
	if files, err := logs.Rotated(path); err != nil || len(files) != 9 {
		t.Errorf("%d files were put aside, %v", len(files), err)
	}
	f.must(f.StopContainer(t.Context(), id, 0))
}

func TestReopenOfALogWithoutItsWriter(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.shell("ends", "echo done")
	p.waitExited(id)
	if err := f.ReopenLog(t.Context(), id); err != nil {
		t.Errorf("a container that has ended: %v", err)
	}
	if err := f.ReopenLog(t.Context(), "nobody"); err != nil {
		t.Errorf("a container that is gone: %v", err)
	}
	id = p.shell("runs", "sleep 1000")
	for _, logger := range f.loggers() {
		f.must(syscall.Kill(logger, syscall.SIGKILL))
	}
	f.eventually("the logger is gone", func() bool { return len(f.loggers()) == 0 })
	if err := f.ReopenLog(t.Context(), id); err == nil || !strings.Contains(err.Error(), "the logger of the container does not run") {
		t.Errorf("a container whose logger was killed: %v", err)
	}
	f.must(f.StopContainer(t.Context(), id, 0))
}
