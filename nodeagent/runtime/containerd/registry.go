package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// resolver asks the hosts that the folder of registry configurations names for a
// registry, and a registry itself where it names none. The folder is containerd's
// (docs/hosts.md there): <registry>/hosts.toml, or _default/hosts.toml for all others.
// It is read for each pull. As in containerd's CRI plug-in a mirror is asked with the
// same credential.
func (r *Runtime) resolver(ctx context.Context, as *runtime.Credential) remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{Hosts: registryHosts(ctx, r.options.RegistryConfigDir, as)})
}

func registryHosts(ctx context.Context, dir string, as *runtime.Credential) docker.RegistryHosts {
	credentials := func(string) (string, string, error) {
		if as == nil {
			return "", "", nil
		}
		return as.Username, as.Password, nil
	}
	direct := docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost),
		docker.WithAuthorizer(docker.NewDockerAuthorizer(docker.WithAuthCreds(credentials))))
	if dir == "" {
		return direct
	}
	find := config.HostDirFromRoot(dir)
	configured := config.ConfigureHosts(ctx, config.HostOptions{HostDir: find, Credentials: credentials})
	return func(registry string) ([]docker.RegistryHost, error) {
		folder, err := find(registry)
		if errdefs.IsNotFound(err) {
			return direct(registry)
		}
		if err != nil {
			return nil, fmt.Errorf("look for the configuration of registry %s in %s: %w", registry, dir, err)
		}
		if err := checkHostsFile(filepath.Join(folder, "hosts.toml")); err != nil {
			return nil, err
		}
		hosts, err := configured(registry)
		if err != nil {
			return nil, fmt.Errorf("configuration of registry %s in %s: %w", registry, folder, err)
		}
		return hosts, nil
	}
}

// checkHostsFile refuses a file that is not TOML. The library passes over such a file
// and asks the registry itself, which a mirror may be there to prevent.
func checkHostsFile(file string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a folder with certificates only
	}
	if err != nil {
		return fmt.Errorf("read registry configuration: %w", err)
	}
	var anything map[string]any
	if err := toml.Unmarshal(text, &anything); err != nil {
		return fmt.Errorf("registry configuration %s is not TOML: %w", file, err)
	}
	return nil
}
