package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"github.com/distribution/reference"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// attempt pulls an image with each credential until one works, and returns that one;
// without any the registry is asked as nobody.
func (m *Manager) attempt(ctx context.Context, name string, credentials []runtime.Credential) (runtime.Image, *runtime.Credential, error) {
	if len(credentials) == 0 {
		image, err := m.service.Pull(ctx, name, nil)
		return image, nil, err
	}
	var problems []error
	for i := range credentials {
		image, err := m.service.Pull(ctx, name, &credentials[i])
		if err == nil || ctx.Err() != nil {
			return image, &credentials[i], err
		}
		problems = append(problems, err)
	}
	return runtime.Image{}, nil, errors.Join(problems...)
}

// recorded is attempt, with a note of it on disk before and after.
func (m *Manager) recorded(ctx context.Context, named reference.Named, credentials []runtime.Credential) (image runtime.Image, err error) {
	name := named.String()
	if m.Records == nil {
		image, _, err = m.attempt(ctx, name, credentials)
		return image, err
	}
	if err := m.Records.begin(name); err != nil {
		return runtime.Image{}, err
	}
	image, used, err := m.attempt(ctx, name, credentials)
	if err == nil {
		if err := m.Records.pulled(image.ID, named.Name(), used); err != nil {
			// The note of the pull stays: whoever wants the image has to ask the registry.
			klog.FromContext(ctx).Error(err, "Cannot note who may use an image", "image", name)
			return image, nil
		}
	}
	if endErr := m.Records.end(name); endErr != nil {
		klog.FromContext(ctx).Error(endErr, "Cannot remove the note of a pull that has ended", "image", name)
	}
	return image, err
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
