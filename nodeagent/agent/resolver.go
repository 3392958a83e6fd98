package agent

import (
	"os"

	"github.com/keelson-dev/keelson/nodeagent/hostfiles"
)

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
