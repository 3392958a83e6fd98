// Command keelson runs a cluster on this machine (up, down, status), converts manifests,
// and shows a cluster as plain Kubernetes (gateway, kubectl; also as kubectl-keelson).
package main

import (
	"os"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
)

func main() {
	if args, ok := kubectlArguments(os.Args); ok {
		os.Exit(runKubectl(args))
	}
	os.Exit(cli.Main(newCommand()))
}
