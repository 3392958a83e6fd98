package containerd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/containerd"
)

// victimEnv tells TestVictim what to do.
const victimEnv = "KEELSON_TEST_VICTIM"

type victimOrders struct {
	Options containerd.Options
	// Container is interactive; it is attached to, and a command runs in it.
	Container string
}

// TestVictim is no test: it is the agent that TestKilledAgent kills. It says "attached"
// when both sessions have got output.
func TestVictim(t *testing.T) {
	text := os.Getenv(victimEnv)
	if text == "" {
		t.Skip("runs as a process of TestKilledAgent")
	}
	var orders victimOrders
	if err := json.Unmarshal([]byte(text), &orders); err != nil {
		t.Fatal(err)
	}
	r, err := containerd.New(context.Background(), orders.Options)
	if err != nil {
		t.Fatal(err)
	}
	var attached, executed screen
	keys, typed := io.Pipe()
	go func() {
		_ = r.Attach(context.Background(), orders.Container, runtime.Streams{Stdin: keys, Stdout: &attached}) // until it is killed
	}()
	go func() {
		_ = r.Exec(context.Background(), orders.Container, []string{"sh", "-c", "echo here; sleep 1002; true"}, runtime.Streams{Stdout: &executed}) // until it is killed
	}()
	f := &fixture{t: t}
	f.eventually("both sessions work", func() bool {
		fmt.Fprintln(typed, "victim")
		return strings.Contains(attached.String(), "got victim") && executed.String() == "here\n"
	})
	fmt.Println("attached")
	select {}
}

func TestKilledAgent(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.interactive("main", nil, "sh", "-c", "printf 'prompt> '; "+echoLines)
	p.waitOutput(id, "prompt> ")
	before := p.processes(id)
	f.must(f.Close())

	orders, err := json.Marshal(victimOrders{Container: id, Options: containerd.Options{
		Address: f.daemon.Address(), StateDir: f.stateDir, PauseBinary: f.pause(), LoggerBinary: f.logger()}})
	f.must(err)
	victim := exec.Command(os.Args[0], "-test.run=^TestVictim$")
	victim.Env = append(os.Environ(), victimEnv+"="+string(orders))
	output, err := victim.StdoutPipe()
	f.must(err)
	f.must(victim.Start())
	if line, err := bufio.NewReader(output).ReadString('\n'); line != "attached\n" {
		t.Errorf("the victim said %q, %v", line, err)
	}
	f.must(victim.Process.Signal(syscall.SIGKILL))
	_ = victim.Wait() // it was killed

	f.connect()
	f.eventually("the command of the killed agent has ended", func() bool { return p.processes(id) == before })
	f.checkNoExecLeft()
	s := f.attach(id, false, nil)
	s.answer("after\n", "got after\n")
	if got := p.output(id); strings.Contains(got, "input ended") || !strings.Contains(got, "got victim\n") {
		t.Errorf("the log is %q", got)
	}
	f.must(f.StopContainer(t.Context(), id, 0))
	f.must(<-s.done)
}
