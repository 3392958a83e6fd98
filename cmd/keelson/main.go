// Command keelson runs a cluster on this machine: up, down, status.
package main

import (
	"os"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Main(newCommand()))
}
