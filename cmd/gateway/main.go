// Command gateway is keelson-gateway: the plain Kubernetes API in front of Keelson's
// kinds.
package main

import (
	"os"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
	"github.com/keelson-dev/keelson/gateway/server"
)

func main() {
	os.Exit(cli.Main(cli.New(cli.Component[server.Options, *server.Options]{
		Use:   "keelson-gateway",
		Kind:  "GatewayConfiguration",
		Short: "The plain Kubernetes API in front of Keelson's kinds, for stock clients.",
		New:   server.NewOptions,
		Run:   server.Run,
	})))
}
