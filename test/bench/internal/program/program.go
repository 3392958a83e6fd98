// Package program runs what benchmarks measure: one program with its log in a file, from
// a main that ends with an interrupt.
//
// A program is ended by Stop alone; one whose benchmark is killed goes on.
package program

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

const (
	// patience is how long a program may take to end by itself.
	patience = 10 * time.Second
	// tail is how much of a log LogTail shows, in bytes.
	tail = 3000
)

// Main is the main of the benchmark of this name: run's context ends with an interrupt.
func Main(name string, run func(context.Context) error) {
	ctrl.SetLogger(klog.Background())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

// Load is the load average of the last minute, "unknown" where it cannot be read.
func Load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// Program is one that was started. A nil one has not been.
type Program struct {
	command *exec.Cmd
	ended   chan struct{}
	log     string
}

// Start runs command with its output in the file log.
func Start(command *exec.Cmd, log string) (*Program, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &Program{command: command, ended: make(chan struct{}), log: log}
	command.Stdout, command.Stderr = file, file
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	go func() {
		_ = command.Wait() // the log says why it ended
		close(p.ended)
	}()
	return p, nil
}

// PID is the number of the process.
func (p *Program) PID() int { return p.command.Process.Pid }

// Ended is closed when the program has ended.
func (p *Program) Ended() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.ended
}

// LogTail is an error with the end of the log; nil without one.
func (p *Program) LogTail() error {
	if p == nil {
		return nil
	}
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err
	}
	return fmt.Errorf("its log ends with:\n%s", text[max(0, len(text)-tail):])
}

// Stop asks the program to end, kills it when it takes long, and returns when it has.
func (p *Program) Stop() {
	if p == nil {
		return
	}
	_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.command.Process.Kill()
		<-p.ended
	}
}
