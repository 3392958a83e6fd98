package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

func TestPlainLogs(t *testing.T) {
	s := newPlainSpace(t)
	s.runningPod("talk", "for i in $(seq 1 20); do echo line $i; done; echo to stderr >&2; sleep 3600", "echo second; sleep 3600")
	s.eventually(soon, "all lines", func() error { return wantIn(s.run("logs", "talk", "-c", "c0"), "line 20\n", "to stderr\n") })
	s.want([]string{"logs", "talk"}, "Defaulted container", "line 1\n")
	for what, tc := range map[string]struct {
		args []string
		want string
	}{
		"the last lines":      {[]string{"--tail=2", "-c", "c0"}, "line 20\nto stderr\n"},
		"the first bytes":     {[]string{"--limit-bytes=9", "-c", "c0"}, "line 1\nli"},
		"another container":   {[]string{"c1"}, "second\n"},
		"nothing since then":  {[]string{"-c", "c0", "--since-time=2100-01-01T00:00:00Z"}, ""},
		"all of the last day": {[]string{"-c", "c1", "--since=24h"}, "second\n"},
	} {
		t.Run(what, func(t *testing.T) {
			if got := s.of(t).run(append([]string{"logs", "talk"}, tc.args...)...); got != tc.want {
				t.Errorf("kubectl logs %v: %q, want %q", tc.args, got, tc.want)
			}
		})
	}
	s.want([]string{"logs", "talk", "--all-containers", "--prefix"}, "[pod/talk/c0] line 3\n", "[pod/talk/c1] second\n")
	s.want([]string{"logs", "-l", "app=talk", "-c", "c1"}, "second\n")
	if err := matches(s.run("logs", "talk", "c1", "--timestamps"), `^\d{4}-\d\d-\d\dT\S+Z second\n$`); err != nil {
		t.Error(err)
	}
	s.refused([]string{"logs", "talk", "-c", "nobody"}, "container nobody is not valid for pod talk")
	s.refused([]string{"logs", "talk", "-c", "c0", "--previous"}, `previous terminated container "c0" in pod "talk" not found`)
	s.refused([]string{"logs", "missing"}, `pods "missing" not found`)

	t.Run("following ends with the container", func(t *testing.T) {
		s := s.of(t)
		s.apply(plain(shellPod("short", "Never", "for i in 1 2 3; do echo $i; sleep 1; done; echo -n end")))
		s.run("wait", "--for=jsonpath={.status.phase}=Running", "pod/short", "--timeout=60s")
		if got := s.run("logs", "-f", "short"); got != "1\n2\n3\nend" {
			t.Errorf("kubectl logs -f: %q", got)
		}
	})
	t.Run("the container before", func(t *testing.T) {
		s := s.of(t)
		s.apply(plain(shellPod("again", "Always", "echo run; exit 1")))
		s.eventually(eventual, "a restart", func() error {
			out, err := s.try("logs", "again", "--previous")
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return wantIn(out, "run\n")
		})
	})
}

func TestPlainExec(t *testing.T) {
	s := newPlainSpace(t)
	s.runningPod("box", "sleep 3600", "sleep 3600")
	s.want([]string{"exec", "box", "--", "sh", "-c", "echo out; echo err >&2; hostname"}, "out\n", "err\n", "box\n")
	s.want([]string{"exec", "box", "-c", "c1", "--", "env"}, "KUBERNETES_SERVICE_HOST=", "HOSTNAME=box")
	out, err := s.try("exec", "box", "-c", "c0", "--", "sh", "-c", "exit 7")
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("kubectl exec returned %v, want exit code 7:\n%s", err, out)
	}
	s.refused([]string{"exec", "box", "-c", "c0", "--", "/no/such/program"}, "no such file or directory")
	s.refused([]string{"exec", "box", "-c", "nobody", "--", "true"}, "container nobody")

	t.Run("a large input comes back whole", func(t *testing.T) {
		data := make([]byte, 8<<20)
		random := rand.NewChaCha8([32]byte{1})
		if _, err := random.Read(data); err != nil {
			t.Fatal(err)
		}
		cmd := s.of(t).command("exec", "-i", "box", "-c", "c0", "--", "cat")
		cmd.Stdin = bytes.NewReader(data)
		got, err := cmd.Output()
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("cat returned %d of %d bytes, equal %v: %v", len(got), len(data), bytes.Equal(got, data), err)
		}
	})
	t.Run("a terminal that changes its size", func(t *testing.T) {
		term := openTerminal(t, s.of(t).command("exec", "-it", "box", "-c", "c0", "--", "sh"))
		term.resize(120, 40)
		term.expect("# ")
		term.send("stty size\n")
		term.expect("40 120")
		term.resize(90, 33)
		term.until("stty size\n", "33 90")
		term.send("exit 5\n")
		if code := term.exitCode(); code != 5 {
			t.Errorf("exit code %d, want 5", code)
		}
	})
}

func TestPlainAttach(t *testing.T) {
	s := newPlainSpace(t)
	s.runningPod("clock", "while :; do echo tick; sleep 0.2; done")
	t.Run("to a container that only speaks", func(t *testing.T) {
		cmd := s.of(t).command("attach", "clock")
		lines := follow(t, cmd)
		for range 3 {
			lines.expect("tick")
		}
	})
	t.Run("to a new Pod, interactively", func(t *testing.T) {
		s := s.of(t)
		term := openTerminal(t, s.command("run", "shell", "-it", "--rm", "--restart=Never", "--image="+cluster.Image(busyboxImage), "--", "sh"))
		term.until("\n", "# ")
		term.send("echo $((40+2)) is the answer\n")
		term.expect("42 is the answer")
		term.send("exit 0\n")
		if code := term.exitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		s.gone("pods", "shell")
	})
	t.Run("with input from a pipe", func(t *testing.T) {
		s := s.of(t)
		cmd := s.command("run", "counter", "-i", "--rm", "--quiet", "--restart=Never", "--image="+cluster.Image(busyboxImage), "--", "wc", "-c")
		if out, err := output(cmd, strings.Repeat("x", 100_000)); err != nil || !strings.Contains(out, "100000") {
			t.Errorf("wc -c says %q: %v", out, err)
		}
	})
}

func TestPlainCopy(t *testing.T) {
	s := newPlainSpace(t)
	s.runningPod("box", "sleep 3600")
	content := strings.Repeat("0123456789abcdef", 64<<10)
	from, back := s.file("data", content), filepath.Join(t.TempDir(), "back")
	s.run("cp", from, s.Name+"/box:/tmp/data")
	s.want([]string{"exec", "box", "--", "wc", "-c", "/tmp/data"}, fmt.Sprint(len(content)))
	s.run("cp", "box:/tmp/data", back)
	if got, err := os.ReadFile(back); err != nil || string(got) != content {
		t.Errorf("%d of %d bytes came back: %v", len(got), len(content), err)
	}
}

func TestPlainPortForward(t *testing.T) {
	s := newPlainSpace(t)
	s.runningController("web", 1)
	s.run("expose", "rc", "web", "--port=80", "--target-port=8080")
	pod := s.podOf("web")
	for _, target := range []string{"pod/" + pod, "svc/web", "rc/web"} {
		t.Run(target, func(t *testing.T) {
			port := "8080"
			if strings.HasPrefix(target, "svc") {
				port = "80"
			}
			lines := follow(t, s.of(t).command("port-forward", target, ":"+port))
			address := lines.expect(`Forwarding from (127\.0\.0\.1:\d+)`)
			for range 5 {
				if body := fetch(t, "http://"+address+"/"); !strings.HasPrefix(body, pod+" ") {
					t.Fatalf("answered %q, want %s", body, pod)
				}
			}
		})
	}
	t.Run("by several rules", func(t *testing.T) {
		lines := follow(t, s.of(t).command("port-forward", "pod/"+pod, ":8080", ":8080"))
		first, second := lines.expect(`Forwarding from (127\.0\.0\.1:\d+)`), lines.expect(`Forwarding from (127\.0\.0\.1:\d+)`)
		for _, address := range []string{first, second} {
			if body := fetch(t, "http://"+address+"/"); !strings.HasPrefix(body, pod+" ") {
				t.Errorf("%s answered %q", address, body)
			}
		}
	})
	t.Run("to a port where nobody listens", func(t *testing.T) {
		lines := follow(t, s.of(t).command("port-forward", "pod/"+pod, ":9"))
		address := lines.expect(`Forwarding from (127\.0\.0\.1:\d+)`)
		client := &http.Client{Timeout: soon}
		if response, err := client.Get("http://" + address + "/"); err == nil {
			response.Body.Close()
			t.Errorf("answered %s", response.Status)
		}
		lines.expect(`onnection refused`)
	})
}

// following is a command that runs in the background until the test ends.
type following struct {
	t      *testing.T
	output chan string // lines; closed at the end
	all    strings.Builder
}

func follow(t *testing.T, cmd *exec.Cmd) *following {
	t.Helper()
	ends, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = other, other
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	other.Close()
	f := &following{t: t, output: make(chan string, 1000)}
	go func() {
		defer close(f.output)
		for scanner := bufio.NewScanner(ends); scanner.Scan(); {
			f.output <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		killing := time.AfterFunc(soon, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		killing.Stop()
		ends.Close()
	})
	return f
}

// expect waits for a line that matches, and returns its first group.
func (f *following) expect(expression string) string {
	f.t.Helper()
	pattern := regexp.MustCompile(expression)
	deadline := time.After(soon)
	for {
		select {
		case line, ok := <-f.output:
			if !ok {
				f.t.Fatalf("the command ended without %q:\n%s", expression, f.all.String())
			}
			f.all.WriteString(line + "\n")
			if match := pattern.FindStringSubmatch(line); match != nil {
				return match[len(match)-1]
			}
		case <-deadline:
			f.t.Fatalf("no line matches %q:\n%s", expression, f.all.String())
		}
	}
}

// terminal is a person at an interactive command.
type terminal struct {
	t     *testing.T
	tty   *os.File
	cmd   *exec.Cmd
	bytes chan []byte
	seen  string
}

func openTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, tty: tty, cmd: cmd, bytes: make(chan []byte, 1000)}
	go func() {
		defer close(term.bytes)
		for {
			chunk := make([]byte, 4096)
			n, err := tty.Read(chunk)
			if n > 0 {
				term.bytes <- chunk[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		tty.Close()
	})
	return term
}

func (m *terminal) resize(columns, rows uint16) {
	m.t.Helper()
	if err := pty.Setsize(m.tty, &pty.Winsize{Cols: columns, Rows: rows}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *terminal) send(text string) {
	m.t.Helper()
	if _, err := m.tty.WriteString(text); err != nil {
		m.t.Fatal(err)
	}
}

// expect waits until text has come, and forgets everything up to its end.
func (m *terminal) expect(text string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), soon)
	defer cancel()
	if !m.find(ctx, text) {
		m.t.Fatalf("the terminal does not show %q but %q", text, m.seen)
	}
}

// until types the same again until text has come.
func (m *terminal) until(typed, text string) {
	m.t.Helper()
	for deadline := time.Now().Add(soon); time.Now().Before(deadline); {
		m.send(typed)
		ctx, cancel := context.WithTimeout(m.t.Context(), time.Second)
		found := m.find(ctx, text)
		cancel()
		if found {
			return
		}
	}
	m.t.Fatalf("the terminal does not show %q but %q", text, m.seen)
}

func (m *terminal) find(ctx context.Context, text string) bool {
	m.t.Helper()
	for {
		if _, rest, ok := strings.Cut(m.seen, text); ok {
			m.seen = rest
			return true
		}
		select {
		case chunk, ok := <-m.bytes:
			if !ok {
				m.t.Fatalf("the command ended without %q; the terminal shows %q", text, m.seen)
			}
			m.seen += string(chunk)
		case <-ctx.Done():
			return false
		}
	}
}

// exitCode waits for the command's end.
func (m *terminal) exitCode() int {
	m.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.cmd.Wait()
	}()
	select {
	case <-done:
	case <-time.After(soon):
		m.t.Fatalf("the command does not end; the terminal shows %q", m.seen)
	}
	return m.cmd.ProcessState.ExitCode()
}
