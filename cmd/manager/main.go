// Command manager is keelson-manager: controllers, scheduler and admission.
package main

import (
	"os"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
	"github.com/keelson-dev/keelson/controllers/manager"
)

func main() {
	os.Exit(cli.Main(cli.New(cli.Component[manager.Options, *manager.Options]{
		Use:   "keelson-manager",
		Kind:  "ManagerConfiguration",
		Short: "Controllers, scheduler and admission of Keelson.",
		New:   manager.NewOptions,
		Run:   manager.Run,
	})))
}
