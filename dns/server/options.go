package server

import (
	"errors"
	"fmt"
	"path/filepath"

	cliflag "k8s.io/component-base/cli/flag"
)

// Options are the settings of keelson-dns that its Corefile does not hold.
type Options struct {
	// Corefile says what is served; see https://coredns.io/manual/configuration.
	Corefile string `json:"corefile"`
	// Port is where server blocks listen that name none.
	Port int `json:"port"`
	// ResolvConf is the file in which `forward . FILE` finds its servers. Where it
	// names none that can be reached, that directive is left out.
	ResolvConf string `json:"resolvConf"`
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{Corefile: "/etc/keelson-dns/Corefile", Port: 53, ResolvConf: "/etc/resolv.conf"}
}

// AddFlags adds a flag for every setting.
func (o *Options) AddFlags(fss *cliflag.NamedFlagSets) {
	fs := fss.FlagSet("dns")
	fs.StringVar(&o.Corefile, "corefile", o.Corefile, "File that says what is served.")
	fs.IntVar(&o.Port, "port", o.Port, "Port of server blocks that name none.")
	fs.StringVar(&o.ResolvConf, "resolv-conf", o.ResolvConf, "File with the servers for names outside of the cluster. A Corefile's 'forward' that names it is left out while it lists no server beside this one.")
}

// Validate returns every problem at once.
func (o *Options) Validate() error {
	var problems []error
	for flag, path := range map[string]string{"corefile": o.Corefile, "resolv-conf": o.ResolvConf} {
		if !filepath.IsAbs(path) {
			problems = append(problems, fmt.Errorf("--%s: %q is not an absolute path", flag, path))
		}
	}
	if o.Port < 1 || o.Port > 65535 {
		problems = append(problems, fmt.Errorf("--port: %d is not a port: use 1 to 65535", o.Port))
	}
	return errors.Join(problems...)
}
