// Command nodeagent is keelson-node: the node agent and the service proxy.
package main

import (
	"os"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
	"github.com/keelson-dev/keelson/nodeagent/agent"
)

func main() {
	os.Exit(cli.Main(cli.New(cli.Component[agent.Options, *agent.Options]{
		Use:   "keelson-node",
		Kind:  "NodeConfiguration",
		Short: "Runs Pods and makes Services work on one machine.",
		New:   agent.NewOptions,
		Run:   agent.Run,
	})))
}
