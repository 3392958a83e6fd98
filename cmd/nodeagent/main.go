// Command nodeagent is keelson-node: the node agent and the service proxy.
package main

import (
	"os"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
	"github.com/keelson-dev/keelson/nodeagent/agent"
)

func main() {
	root := cli.New(cli.Component[agent.Options, *agent.Options]{
		Use:   "keelson-node",
		Kind:  "NodeConfiguration",
		Short: "Runs Pods and makes Services work on one machine.",
		New:   agent.NewOptions,
		Run:   agent.Run,
	})
	root.AddCommand(cli.New(cli.Component[agent.Options, *agent.Options]{
		Use:   "cleanup",
		Kind:  "NodeConfiguration",
		Short: "Ends all Pods of this machine and removes everything that keelson-node made.",
		Long:  "Ends all Pods of this machine and removes everything that keelson-node made. Give it the same settings; keelson-node must not run.",
		New:   agent.NewOptions,
		Run:   agent.Cleanup,
	}))
	os.Exit(cli.Main(root))
}
