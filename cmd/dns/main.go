// Command dns is keelson-dns: the cluster's DNS server.
package main

import (
	"os"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
	"github.com/keelson-dev/keelson/dns/server"
)

func main() {
	os.Exit(cli.Main(cli.New(cli.Component[server.Options, *server.Options]{
		Use:   "keelson-dns",
		Kind:  "DNSConfiguration",
		Short: "Answers for the names of the cluster's Services and Pods.",
		Long:  "Answers for the names of the cluster's Services and Pods: CoreDNS with a plug-in for Keelson's kinds. The Corefile says what is served.",
		New:   server.NewOptions,
		Run:   server.Run,
	})))
}
