package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Commands runs the iptables programs of the machine in the network namespace of this
// process.
type Commands struct {
	// Variant is the program's name: "iptables" (the default) as the machine has it
	// configured, or "iptables-nft" or "iptables-legacy".
	Variant string
	// LockSeconds is how long a restore waits for another program that changes
	// iptables; 5 by default.
	LockSeconds int
	// Timeout ends a command that hangs; 5 minutes by default, because large rulesets
	// take long on the nft backend.
	Timeout time.Duration
}

// RestoreError is a refused iptables-restore.
type RestoreError struct {
	// Line is the number of the refused line of the input, or zero.
	Line int
	// Message is what the program printed.
	Message string
	err     error
}

func (e *RestoreError) Error() string {
	return fmt.Sprintf("iptables-restore: %v: %s", e.err, e.Message)
}

func (e *RestoreError) Unwrap() error { return e.err }

// Save implements Executor. Where nothing has written rules yet, iptables-save prints
// nothing, not even which backend it speaks to; then the answer to --version says so.
func (c Commands) Save(ctx context.Context) ([]byte, error) {
	out, message, err := c.run(ctx, nil, c.name()+"-save")
	if err != nil {
		return nil, fmt.Errorf("%s-save: %w: %s", c.name(), err, message)
	}
	if len(out) > 0 {
		return out, nil
	}
	version, message, err := c.run(ctx, nil, c.name(), "--version")
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w: %s", c.name(), err, message)
	}
	return append([]byte("# "), version...), nil
}

// Restore implements Executor.
func (c Commands) Restore(ctx context.Context, input []byte) error {
	lock := c.LockSeconds
	if lock == 0 {
		lock = 5
	}
	_, message, err := c.run(ctx, input, c.name()+"-restore", "--noflush", "-w", strconv.Itoa(lock))
	if err != nil {
		return &RestoreError{Line: failedLine(message), Message: message, err: err}
	}
	return nil
}

// Installed reports whether the machine has the programs.
func (c Commands) Installed() bool {
	_, err := exec.LookPath(c.name() + "-save")
	return err == nil
}

func (c Commands) name() string {
	if c.Variant == "" {
		return "iptables"
	}
	return c.Variant
}

func (c Commands) run(ctx context.Context, input []byte, name string, args ...string) (out []byte, message string, err error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 5 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, "install it, on Debian with: apt-get install iptables", err
	}
	return stdout.Bytes(), strings.TrimSpace(stderr.String()), err
}

func failedLine(message string) int {
	match := regexp.MustCompile(`(?i)line:? (\d+)`).FindStringSubmatch(message)
	if match == nil {
		return 0
	}
	n, err := strconv.Atoi(match[1])
	if err != nil {
		return 0
	}
	return n
}

// explainRestore adds the text of the refused line.
func explainRestore(err error, input []byte) error {
	var refused *RestoreError
	if errors.As(err, &refused) && refused.Line > 0 {
		number := 0
		for line := range bytes.Lines(input) {
			if number++; number == refused.Line {
				return fmt.Errorf("writing iptables rules, at %q: %w", bytes.TrimSpace(line), err)
			}
		}
	}
	return fmt.Errorf("writing iptables rules: %w", err)
}
