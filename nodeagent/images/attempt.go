package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"github.com/distribution/reference"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// attempt pulls an image with each credential until one works; without any the registry
// is asked as nobody.
func (m *Manager) attempt(ctx context.Context, name string, credentials []runtime.Credential) (runtime.Image, error) {
	if len(credentials) == 0 {
		return m.service.Pull(ctx, name, nil)
	}
	var problems []error
	for i := range credentials {
		image, err := m.service.Pull(ctx, name, &credentials[i])
		if err == nil || ctx.Err() != nil {
			return image, err
		}
		problems = append(problems, err)
	}
	return runtime.Image{}, errors.Join(problems...)
}

// credentialsFor are those that the request has for an image.
func (r Request) credentialsFor(named reference.Named) []runtime.Credential {
	if r.Credentials == nil {
		return nil
	}
	return r.Credentials(named.Name())
}

// flightKey keeps those apart who may not see the same: nobody profits from another's
// password.
func flightKey(name string, credentials []runtime.Credential) string {
	h := sha256.New()
	for _, c := range credentials {
		for _, text := range []string{c.Username, c.Password} {
			sum := sha256.Sum256([]byte(text))
			h.Write(sum[:])
		}
	}
	return name + " " + hex.EncodeToString(h.Sum(nil))
}
