// Package credentials knows which user names and passwords a registry may be asked with:
// those of a Pod's image pull Secrets and those of the node's own file.
//
// It is pure: it talks to nobody and keeps nothing. A more specific entry comes first,
// as in upstream's keyring; all that match are tried, so that passwords can be changed
// without an interruption.
package credentials

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// dockerHub is how entries for docker.io are written.
const dockerHub = "index.docker.io"

// Keyring holds credentials by registry, or by registry and the beginning of a
// repository. The zero value holds none.
type Keyring struct {
	entries []entry
}

type entry struct {
	key        string
	credential runtime.Credential
}

// file is a config.json; its auths are all that a .dockercfg holds.
type file struct {
	Auths map[string]auth `json:"auths"`
}

type auth struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"`
}

// AddSecret adds the credentials of an image pull Secret.
func (k *Keyring) AddSecret(secret *corev1.Secret) error {
	switch secret.Type {
	case corev1.SecretTypeDockerConfigJson:
		auths, err := parseConfig(secret.Data[corev1.DockerConfigJsonKey])
		if err != nil {
			return err
		}
		return k.add(auths, of(secret))
	case corev1.SecretTypeDockercfg:
		var auths map[string]auth
		if err := json.Unmarshal(secret.Data[corev1.DockerConfigKey], &auths); err != nil {
			return fmt.Errorf("decoding %s: %w", corev1.DockerConfigKey, err)
		}
		return k.add(auths, of(secret))
	}
	return fmt.Errorf("its type is %q, neither %s nor %s", secret.Type, corev1.SecretTypeDockerConfigJson, corev1.SecretTypeDockercfg)
}

// AddConfig adds the credentials of a config.json.
func (k *Keyring) AddConfig(config []byte) error {
	auths, err := parseConfig(config)
	if err != nil {
		return err
	}
	return k.add(auths, nil)
}

func parseConfig(config []byte) (map[string]auth, error) {
	var f file
	if err := json.Unmarshal(config, &f); err != nil {
		return nil, fmt.Errorf("decoding the registry configuration: %w", err)
	}
	return f.Auths, nil
}

// of names the Secret that credentials come from.
func of(secret *corev1.Secret) *runtime.SecretRef {
	return &runtime.SecretRef{UID: secret.UID, Namespace: secret.Namespace, Name: secret.Name}
}

func (k *Keyring) add(auths map[string]auth, from *runtime.SecretRef) error {
	for _, registry := range slices.Sorted(maps.Keys(auths)) {
		credential, err := auths[registry].credential()
		if err != nil {
			return fmt.Errorf("entry %q: %w", registry, err)
		}
		key, err := keyOf(registry)
		if err != nil {
			return fmt.Errorf("entry %q: %w", registry, err)
		}
		credential.Secret = from
		k.entries = append(k.entries, entry{key, credential})
	}
	// Longer keys of the same registry come first.
	slices.SortStableFunc(k.entries, func(a, b entry) int { return cmp.Compare(b.key, a.key) })
	return nil
}

func (a auth) credential() (runtime.Credential, error) {
	if a.Auth == "" {
		return runtime.Credential{Username: a.Username, Password: a.Password}, nil
	}
	text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(a.Auth), "="))
	if err != nil {
		return runtime.Credential{}, fmt.Errorf("decoding auth: %w", err)
	}
	username, password, ok := strings.Cut(string(text), ":")
	if !ok {
		return runtime.Credential{}, errors.New("unable to parse auth field, must be formatted as base64(username:password)")
	}
	return runtime.Credential{Username: username, Password: password}, nil
}

// keyOf drops what does not matter: the scheme, and the version of the protocol.
func keyOf(registry string) (string, error) {
	if !strings.HasPrefix(registry, "https://") && !strings.HasPrefix(registry, "http://") {
		registry = "https://" + registry
	}
	parsed, err := url.Parse(registry)
	if err != nil {
		return "", err
	}
	p := parsed.Path
	if strings.HasPrefix(p, "/v1/") || strings.HasPrefix(p, "/v2/") {
		p = p[len("/v1"):]
	}
	if p == "/" {
		p = ""
	}
	return parsed.Host + p, nil
}

// Lookup returns the credentials to try, in order, for a repository with its registry,
// such as docker.io/library/busybox.
func (k *Keyring) Lookup(repository string) []runtime.Credential {
	var found []runtime.Credential
	for _, e := range k.entries {
		if matches(e.key, repository) {
			found = append(found, e.credential)
		}
	}
	if len(found) > 0 || !strings.HasPrefix(repository, "docker.io/") {
		return found
	}
	for _, e := range k.entries {
		if e.key == dockerHub {
			found = append(found, e.credential)
		}
	}
	return found
}

// matches compares a key, whose host may have a * in each part, with a repository.
func matches(key, repository string) bool {
	keyHost, keyPath := split(key)
	host, repositoryPath := split(repository)
	keyName, keyPort := splitPort(keyHost)
	name, port := splitPort(host)
	globs, parts := strings.Split(keyName, "."), strings.Split(name, ".")
	if keyPort != port || len(globs) != len(parts) || !strings.HasPrefix(repositoryPath, keyPath) {
		return false
	}
	for i := range globs {
		if ok, err := path.Match(globs[i], parts[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

func split(text string) (host, rest string) {
	if at := strings.IndexByte(text, '/'); at >= 0 {
		return text[:at], text[at:]
	}
	return text, ""
}

func splitPort(host string) (name, port string) {
	if name, port, err := net.SplitHostPort(host); err == nil {
		return name, port
	}
	return host, ""
}
