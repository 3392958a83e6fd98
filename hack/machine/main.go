// Command machine runs a command on a throw-away machine: network, mount, process
// and cgroup namespaces of its own, as the end-to-end tests have. It is for trying a
// cluster by hand beside one that is in use:
//
//	go build -o bin/machine ./hack/machine
//	bin/machine bash -c 'bin/keelson up --data-dir /tmp/try && bash; bin/keelson down --data-dir /tmp/try'
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/keelson-dev/keelson/test/env/machine"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: machine COMMAND [ARGUMENT]...")
		os.Exit(2)
	}
	os.Exit(machine.Main(runCommand))
}

func runCommand() int {
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "machine:", err)
		return 1
	}
	return 0
}
