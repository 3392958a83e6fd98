package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/keelson-dev/keelson/nodeagent/hostfiles"
)

// resolverFile is the file with the machine's name servers.
func (o *Options) resolverFile() string {
	if o.ResolvConf != "" {
		return o.ResolvConf
	}
	return chooseResolverFile("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
}

// validateResolvConf refuses a file that cannot be read: without it no Pod would start.
func (o *Options) validateResolvConf() error {
	if o.ResolvConf == "" {
		return nil
	}
	if !filepath.IsAbs(o.ResolvConf) {
		return fmt.Errorf("--resolv-conf: %q is not an absolute path", o.ResolvConf)
	}
	if _, err := os.ReadFile(o.ResolvConf); err != nil {
		return fmt.Errorf("--resolv-conf: %w", err)
	}
	return nil
}

// chooseResolverFile returns the first of paths that names a server which Pods can
// reach, or the first of all. Where systemd-resolved runs, /etc/resolv.conf names only
// the machine's own address, and another file the real servers.
func chooseResolverFile(paths ...string) string {
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err == nil && hostfiles.ParseResolver(string(data)).ServesPods() {
			return path
		}
	}
	return paths[0]
}
