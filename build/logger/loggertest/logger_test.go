// Package loggertest tests the logger program, whose folder cannot hold Go files.
package loggertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/logs"
)

const patience = 10 * time.Second

// logger is a running program, with the test in the place of the shim.
type logger struct {
	t              testing.TB
	command        *exec.Cmd
	path           string
	stdout, stderr *os.File
	ended          chan error
}

func build(t testing.TB) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "keelson-logger")
	if out, err := exec.Command("make", "-C", "..", "OUT="+program).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// start runs the logger as the shim does and returns when it is ready.
func start(t testing.TB, path string) *logger {
	t.Helper()
	l := &logger{t: t, path: path, command: exec.Command(build(t), "log", path), ended: make(chan error, 1)}
	l.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	l.command.Env = []string{"CONTAINER_ID=test"}
	var ends []*os.File
	pipe := func() (reader, writer *os.File) {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, reader, writer)
		return reader, writer
	}
	var out, errs *os.File
	out, l.stdout = pipe()
	errs, l.stderr = pipe()
	ready, readyWriter := pipe()
	l.command.ExtraFiles = []*os.File{out, errs, readyWriter}
	if err := l.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { l.ended <- l.command.Wait() }()
	t.Cleanup(func() {
		_ = l.command.Process.Kill()
		for _, end := range ends {
			_ = end.Close()
		}
	})
	for _, end := range []*os.File{out, errs, readyWriter} {
		_ = end.Close()
	}
	if err := ready.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := ready.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("wait until the logger is ready: %v", err)
	}
	return l
}

func startInTemp(t testing.TB) *logger {
	t.Helper()
	return start(t, filepath.Join(t.TempDir(), "0.log"))
}

func (l *logger) write(to *os.File, text string) {
	l.t.Helper()
	if err := to.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		l.t.Fatal(err)
	}
	if _, err := to.WriteString(text); err != nil {
		l.t.Fatalf("the container cannot write: %v", err)
	}
}

func (l *logger) signal(signal os.Signal) {
	l.t.Helper()
	if err := l.command.Process.Signal(signal); err != nil {
		l.t.Fatal(err)
	}
}

// end closes the container's outputs and waits until the logger has ended.
func (l *logger) end() {
	l.t.Helper()
	_, _ = l.stdout.Close(), l.stderr.Close()
	l.wait()
}

func (l *logger) wait() {
	l.t.Helper()
	select {
	case err := <-l.ended:
		if err != nil {
			l.t.Errorf("the logger ended with %v", err)
		}
	case <-time.After(patience):
		l.t.Fatal("the logger did not end")
	}
}

// text is the log with "<time>" in the place of times.
func (l *logger) text() string { return textOf(l.t, l.path) }

var stamp = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z `)

func textOf(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return stamp.ReplaceAllString(string(data), "<time> ")
}

func (l *logger) waitText(want string) {
	l.t.Helper()
	eventually(l.t, fmt.Sprintf("the log ends in %q", want), func() bool { return strings.HasSuffix(l.text(), want) })
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain until %s", what)
		}
	}
}

func line(tag, text string) string { return "<time> stdout " + tag + " " + text + "\n" }

func TestEntries(t *testing.T) {
	long := strings.Repeat("x", logs.MaxLine)
	var short, wantShort strings.Builder
	for i := range 20_000 { // much more than a pipe holds, and lines shorter than their heads
		fmt.Fprintf(&short, "%d\n", i)
		wantShort.WriteString(line("F", fmt.Sprint(i)))
	}
	var mixed, wantMixed strings.Builder
	for i := range 300 { // newlines at all distances
		text := strings.Repeat("y", i*7%311)
		mixed.WriteString(text + "\n")
		wantMixed.WriteString(line("F", text))
	}
	tests := map[string]struct {
		writes []string
		want   string
	}{
		"no output makes an empty file":             {},
		"a line is one entry":                       {writes: []string{"hello\n"}, want: line("F", "hello")},
		"lines of one write are entries each":       {writes: []string{"a\nb\n"}, want: line("F", "a") + line("F", "b")},
		"an empty line is kept":                     {writes: []string{"\n\n"}, want: line("F", "") + line("F", "")},
		"a line may come in several writes":         {writes: []string{"he", "ll", "o\n"}, want: line("F", "hello")},
		"a line that no newline ends is a piece":    {writes: []string{"a\nb"}, want: line("F", "a") + line("P", "b")},
		"bytes are not interpreted":                 {writes: []string{"\x00\xff\r\x80\n"}, want: line("F", "\x00\xff\r\x80")},
		"a line of the longest length is whole":     {writes: []string{long + "\n"}, want: line("F", long)},
		"a longer line is cut":                      {writes: []string{long + "y\n"}, want: line("P", long) + line("F", "y")},
		"a longer line is cut across writes":        {writes: []string{long[1:], "xy", "z\n"}, want: line("P", long) + line("F", "yz")},
		"a long line in one write is cut twice":     {writes: []string{long + long + "\n"}, want: line("P", long) + line("F", long)},
		"a very long line without an end":           {writes: []string{strings.Repeat(long, 40) + "z"}, want: strings.Repeat(line("P", long), 40) + line("P", "z")},
		"many short lines":                          {writes: []string{short.String()}, want: wantShort.String()},
		"newlines at all distances":                 {writes: []string{mixed.String()}, want: wantMixed.String()},
		"the longest lines fill the buffer exactly": {writes: []string{strings.Repeat(long+"\n", 20)}, want: strings.Repeat(line("F", long), 20)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := startInTemp(t)
			for _, text := range test.writes {
				l.write(l.stdout, text)
			}
			l.end()
			if _, err := os.Stat(l.path); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(test.want, l.text()); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStreamsShareTheFile(t *testing.T) {
	l := startInTemp(t)
	l.write(l.stdout, "half ")
	l.write(l.stderr, "oops\n")
	l.waitText("<time> stderr F oops\n") // an unfinished line waits
	l.write(l.stdout, "done\n")
	l.waitText("<time> stdout F half done\n")
	if err := l.stdout.Close(); err != nil {
		t.Fatal(err)
	}
	l.write(l.stderr, "alone\n")
	l.waitText("<time> stderr F alone\n")
	l.end()
}

func TestTimesAreNow(t *testing.T) {
	l := startInTemp(t)
	before := time.Now()
	l.write(l.stdout, "x\n")
	l.waitText("x\n")
	after := time.Now()
	data, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(data), " ")
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.Before(before.Round(0)) || at.After(after.Round(0)) {
		t.Errorf("time %s (%v), want one from %s to %s", text, err, before, after)
	}
}

func TestAppendsToWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := start(t, path)
	l.write(l.stdout, "after\n")
	l.end()
	if diff := cmp.Diff("before\n"+line("F", "after"), l.text()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestTerminationTakesWhatIsLeft(t *testing.T) {
	l := startInTemp(t)
	// The logger is stopped, so that all of this is in the pipes when it is told to end,
	// and the test still holds the other ends, as a stray process may.
	l.signal(syscall.SIGSTOP)
	text := strings.Repeat("0123456789\n", 5000)
	l.write(l.stdout, text+"last")
	l.write(l.stderr, "words")
	l.signal(syscall.SIGTERM)
	l.signal(syscall.SIGCONT)
	l.wait()
	want := strings.Repeat(line("F", "0123456789"), 5000) + line("P", "last") + "<time> stderr P words\n"
	if got := l.text(); got != want {
		t.Errorf("log of %d bytes ends in %q, want %d bytes", len(got), got[max(0, len(got)-100):], len(want))
	}
}

func TestSpreadSignalsDoNotEndIt(t *testing.T) {
	l := startInTemp(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2} {
		l.signal(signal)
	}
	l.write(l.stdout, "alive\n")
	l.waitText(line("F", "alive"))
	l.end()
}

func TestHangUpOpensTheFileAgain(t *testing.T) {
	l := startInTemp(t)
	l.write(l.stdout, "before\n")
	l.waitText("before\n")
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		t.Fatal(err)
	}
	l.write(l.stdout, "between\n")
	eventually(t, "the renamed file is still written", func() bool { return strings.HasSuffix(textOf(t, l.path+".1"), "between\n") })
	l.signal(syscall.SIGHUP)
	eventually(t, "the file is there again", func() bool { _, err := os.Stat(l.path); return err == nil })
	l.write(l.stdout, "after\n")
	l.end()
	if diff := cmp.Diff(line("F", "after"), l.text()); diff != "" {
		t.Errorf("new file (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(line("F", "before")+line("F", "between"), textOf(t, l.path+".1")); diff != "" {
		t.Errorf("old file (-want +got):\n%s", diff)
	}
}

func TestFullDiskDoesNotStopTheContainer(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Skipf("needs to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	l := start(t, filepath.Join(dir, "0.log"))
	text := strings.Repeat("x", 99) + "\n"
	l.write(l.stdout, strings.Repeat(text, 10_000)) // fails unless somebody reads it all
	unread := func() int {
		n, err := unix.IoctlGetInt(int(l.stdout.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	eventually(t, "the pipe is empty", func() bool { return unread() == 0 })
	l.write(l.stderr, "lost too\n")
	eventually(t, "the other pipe is read", func() bool {
		n, err := unix.IoctlGetInt(int(l.stderr.Fd()), unix.TIOCINQ)
		return err == nil && n == 0
	})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.write(l.stdout, "again\n")
	l.waitText(line("F", "again"))
	l.end()

	got := strings.Split(strings.TrimSuffix(l.text(), "\n"), "\n")
	whole := got[:len(got)-2]
	for i, entry := range whole {
		if entry+"\n" != line("F", text[:99]) {
			t.Fatalf("entry %d is torn: %q", i, entry)
		}
	}
	if len(whole) == 0 || len(whole) > 700 {
		t.Errorf("%d entries before the disk was full", len(whole))
	}
	lost := 10_000*len(text) - len(whole)*len(text) + len("lost too\n")
	want := fmt.Sprintf("<time> stderr F keelson-logger: %d bytes of output were lost here: no space left on device", lost)
	if diff := cmp.Diff(want, got[len(got)-2]); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestMissingFolderIsWaitedFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	l := start(t, filepath.Join(dir, "0.log"))
	l.write(l.stdout, "lost\n")
	eventually(t, "it is read", func() bool {
		n, err := unix.IoctlGetInt(int(l.stdout.Fd()), unix.TIOCINQ)
		return err == nil && n == 0
	})
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.write(l.stdout, "kept\n")
	l.end()
	want := "<time> stderr F keelson-logger: 5 bytes of output were lost here: no such file or directory\n" + line("F", "kept")
	if diff := cmp.Diff(want, l.text()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestWrongArguments(t *testing.T) {
	program := build(t)
	for _, arguments := range [][]string{nil, {"log"}, {"file", "/x"}, {"log", "/x", "more"}} {
		out, err := exec.Command(program, arguments...).CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("usage: keelson-logger log <path>")) {
			t.Errorf("%v: %v, %q", arguments, err, out)
		}
	}
}

// privateMemory is what one more logger costs, in KiB.
func (l *logger) privateMemory() (sum int) {
	l.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", l.command.Process.Pid))
	if err != nil {
		l.t.Skipf("needs smaps_rollup: %v", err)
	}
	for row := range strings.Lines(string(data)) {
		var kb int
		if _, err := fmt.Sscanf(row, "Private_Dirty: %d kB", &kb); err == nil {
			sum += kb
		}
	}
	return sum
}

func TestSilenceCostsNoBuffers(t *testing.T) {
	l := startInTemp(t)
	const limit = 32 // the buffers are some hundreds
	if got := l.privateMemory(); got > limit {
		t.Errorf("%d KiB of private memory at the start, want at most %d", got, limit)
	}
	l.write(l.stdout, strings.Repeat(strings.Repeat("x", 99)+"\n", 10_000))
	l.write(l.stderr, strings.Repeat(strings.Repeat("x", 99)+"\n", 10_000))
	eventually(t, "buffers are given back", func() bool { return l.privateMemory() <= limit })
	l.write(l.stdout, "and it works on\n")
	l.waitText("and it works on\n")
	l.end()
}

func BenchmarkLogger(b *testing.B) {
	for _, length := range []int{16, 100, 1000} {
		b.Run(fmt.Sprintf("lines of %d bytes", length), func(b *testing.B) {
			l := start(b, "/dev/null")
			text := strings.Repeat(strings.Repeat("x", length-1)+"\n", 64<<10/length)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := l.stdout.WriteString(text); err != nil {
					b.Fatal(err)
				}
			}
			l.end()
		})
	}
}
