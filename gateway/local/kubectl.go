package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"
)

// Kubectl is stock kubectl behind a local gateway.
type Kubectl struct {
	// Program is kubectl's path, or its name to be looked up in PATH.
	Program string
	// Environ is the environment, of which kubectl gets all but KUBECONFIG.
	Environ        []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// exitUnusable is the code for what ends before kubectl runs.
const exitUnusable = 1

// Run runs kubectl with args through a gateway that acts with the credentials that args
// and the environment choose, and returns its exit code. Signals go to kubectl. ctx
// gives the logger; its end is not looked at, kubectl's is.
func (k Kubectl) Run(ctx context.Context, args []string) int {
	a, err := divide(args)
	if err != nil {
		return k.fail(err)
	}
	if a.direct {
		return k.execute(a.rest, k.Environ)
	}
	client := a.clientConfig()
	config, err := client.ClientConfig()
	if err != nil {
		return k.fail(err)
	}
	namespace, _, err := client.Namespace()
	if err != nil {
		return k.fail(err)
	}
	g, err := Start(ctx, Options{Caller: config, Namespace: namespace})
	if err != nil {
		return k.fail(err)
	}
	code, err := k.through(g, a.rest)
	if closeErr := g.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return k.fail(err)
	}
	if failure := g.Failure(); failure != nil && code != 0 {
		fmt.Fprintf(k.Stderr, "keelson: cannot reach the API server at %s: %v\n", config.Host, failure)
	}
	return code
}

// through keeps the kubeconfig, and what kubectl learns of the API in this one run, in
// a folder that is gone afterwards.
func (k Kubectl) through(g *Gateway, args []string) (code int, err error) {
	dir, err := os.MkdirTemp("", "keelson-kubectl-")
	if err != nil {
		return 0, fmt.Errorf("make a folder for the kubeconfig: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*g.Kubeconfig(), kubeconfig); err != nil {
		return 0, fmt.Errorf("write the kubeconfig: %w", err)
	}
	env := with(k.Environ, "KUBECONFIG", kubeconfig)
	// The port is another one in each run, so that a cache in the person's home would
	// grow with each, and never be used.
	env = with(env, "KUBECACHEDIR", filepath.Join(dir, "cache"))
	return k.execute(args, env), nil
}

func with(env []string, name, value string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(entry string) bool { return strings.HasPrefix(entry, name+"=") })
	return append(env, name+"="+value)
}

// execute runs kubectl to its end.
func (k Kubectl) execute(args, env []string) int {
	cmd := exec.Command(k.Program, args...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = k.Stdin, k.Stdout, k.Stderr
	// Before it starts, so that no signal ends us while it runs.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return k.fail(fmt.Errorf("%s is not in PATH: install it, or name it in the environment variable KUBECTL", k.Program))
		}
		return k.fail(err)
	}
	ended := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		for {
			select {
			case s := <-signals:
				if number, ok := s.(syscall.Signal); ok && !fromTerminal(number) {
					_ = cmd.Process.Signal(s) // it may have ended meanwhile
				}
			case <-ended:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(ended)
	<-forwarded
	return k.codeOf(err)
}

// fromTerminal: the signals of the keyboard go to the whole foreground group, so that
// kubectl has got this one already.
func fromTerminal(s syscall.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false // no terminal: somebody sent it to us alone
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// codeOf is kubectl's exit code, or that of a shell for a program that a signal ended.
func (k Kubectl) codeOf(err error) int {
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return 0
	case !ok:
		return k.fail(err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

func (k Kubectl) fail(err error) int {
	fmt.Fprintf(k.Stderr, "error: %v\n", err)
	return exitUnusable
}
