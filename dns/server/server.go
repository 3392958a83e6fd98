// Package server runs keelson-dns: CoreDNS with the plug-ins that a cluster's DNS
// needs, and our own.
//
// Everything that is served comes from the Corefile. It keeps nothing on disk: after a
// crash the Corefile and the API are read again.
package server

import (
	"context"
	"errors"
	"fmt"
	golog "log"
	"os"
	"strconv"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/dns/plugin"
	"github.com/keelson-dev/keelson/version"
)

// Run serves until ctx ends; then what is being asked is still answered for as long as
// the Corefile's lameduck says. It may be called once in a process: CoreDNS knows its
// directives and its servers by global names.
func Run(ctx context.Context, o Options) error {
	log := klog.FromContext(ctx)
	golog.SetOutput(os.Stderr)
	golog.SetFlags(0)
	caddy.AppName, caddy.AppVersion, caddy.Quiet = "keelson-dns", version.Get().Version, true
	dnsserver.Quiet, dnsserver.Port, dnsserver.Directives = true, strconv.Itoa(o.Port), directives()
	// Watches outlive the signal until the server itself has stopped.
	plugin.Register(context.WithoutCancel(ctx), "keelson-dns/"+version.Get().Version)
	caddy.SetDefaultCaddyfileLoader("corefile", loader{options: o, log: log})
	input, err := caddy.LoadCaddyfile(serverType)
	if err != nil {
		return err
	}
	if _, err := caddy.Start(input); err != nil {
		return fmt.Errorf("start as %s says: %w", o.Corefile, err)
	}
	log.Info("Serving", "corefile", o.Corefile)
	<-ctx.Done()
	return stop()
}

// stop ends what a reload may have replaced since the start.
func stop() error {
	var errs []error
	for _, instance := range caddy.Instances() {
		errs = append(errs, instance.ShutdownCallbacks()...)
	}
	return errors.Join(append(errs, caddy.Stop())...)
}
