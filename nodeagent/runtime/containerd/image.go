package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// localImage is an unpacked image.
type localImage struct {
	runtime.Image
	// chainID names the snapshot of all layers.
	chainID string
}

// imageCache remembers what never changes about an image: its content by manifest
// digest and its users by configuration digest. Names are asked for every time.
type imageCache struct {
	mu      sync.Mutex
	content map[digest.Digest]localImage
	users   map[userKey]specs.User
	// resolving is held over IO while an image's user is looked up.
	resolving sync.Mutex
}

// userKey is a user of an image, by the digest of its configuration.
type userKey struct{ image, name string }

func (c *imageCache) get(target digest.Digest) (localImage, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	image, ok := c.content[target]
	return image, ok
}

func (c *imageCache) remember(target digest.Digest, image localImage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.content == nil {
		c.content = map[digest.Digest]localImage{}
	}
	c.content[target] = image
}

func (c *imageCache) user(key userKey) (specs.User, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	user, ok := c.users[key]
	return user, ok
}

func (c *imageCache) rememberUser(key userKey, user specs.User) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users == nil {
		c.users = map[userKey]specs.User{}
	}
	c.users[key] = user
}

// forget is for when containerd turns out not to hold what it did.
func (c *imageCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.content, c.users = nil, nil
}

// Image implements runtime.ImageService.
func (r *Runtime) Image(ctx context.Context, ref string) (*runtime.Image, error) {
	image, err := r.lookup(ctx, ref)
	if err != nil || image == nil {
		return nil, err
	}
	return &image.Image, nil
}

// Pull implements runtime.ImageService.
func (r *Runtime) Pull(ctx context.Context, ref string, as *runtime.Credential) (runtime.Image, error) {
	name, err := normalise(ref)
	if err != nil {
		return runtime.Image{}, err
	}
	pulled, err := r.client.Pull(ctx, name, client.WithPullUnpack, client.WithPullSnapshotter(r.options.Snapshotter),
		client.WithResolver(r.resolver(ctx, as)))
	if err != nil {
		if errdefs.IsUnavailable(err) {
			return runtime.Image{}, r.explain("pull "+name, err)
		}
		return runtime.Image{}, fmt.Errorf("failed to pull and unpack image %q: %w", name, err)
	}
	image, err := r.describe(ctx, pulled.Name(), pulled.Target())
	if err != nil {
		return runtime.Image{}, err
	}
	return image.Image, nil
}

// normalise completes a reference: "busybox" is "docker.io/library/busybox:latest".
func normalise(ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", fmt.Errorf("image reference %q: %w", ref, err)
	}
	return named.String(), nil
}

// lookup finds a local, unpacked image by name, by repository digest or by
// configuration digest; nil when there is none.
func (r *Runtime) lookup(ctx context.Context, ref string) (*localImage, error) {
	found, err := r.find(ctx, ref)
	if err != nil || found == nil {
		return nil, err
	}
	image, err := r.describe(ctx, found.Name, found.Target)
	if errdefs.IsNotFound(err) {
		return nil, nil // content is missing or not unpacked: pull again
	}
	return image, err
}

func (r *Runtime) find(ctx context.Context, ref string) (*images.Image, error) {
	store := r.client.ImageService()
	if id, err := digest.Parse(ref); err == nil {
		return r.findByID(ctx, id)
	}
	name, err := normalise(ref)
	if err != nil {
		return nil, err
	}
	image, err := store.Get(ctx, name)
	if err == nil {
		return &image, nil
	}
	if !errdefs.IsNotFound(err) {
		return nil, r.explain("look for image "+name, err)
	}
	repository, wanted, isDigest := strings.Cut(name, "@")
	if !isDigest {
		return nil, nil
	}
	// Pulled by tag, asked for by digest.
	same, err := store.List(ctx, "target.digest=="+wanted)
	if err != nil {
		return nil, r.explain("list images", err)
	}
	for _, candidate := range same {
		if repositoryOf(candidate.Name) == repository {
			return &candidate, nil
		}
	}
	return nil, nil
}

func (r *Runtime) findByID(ctx context.Context, id digest.Digest) (*images.Image, error) {
	all, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, r.explain("list images", err)
	}
	for _, candidate := range all {
		image, err := r.describe(ctx, candidate.Name, candidate.Target)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if image.ID == id.String() {
			return &candidate, nil
		}
	}
	return nil, nil
}

func repositoryOf(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	return named.Name()
}

// describe reads an image's content. Its error is NotFound when the image cannot be
// used as it is.
func (r *Runtime) describe(ctx context.Context, name string, target ocispec.Descriptor) (*localImage, error) {
	image, known := r.images.get(target.Digest)
	if !known {
		var err error
		if image, err = r.readImage(ctx, target); err != nil {
			return nil, r.explain("read image "+name, err)
		}
		r.images.remember(target.Digest, image)
	}
	image.Ref = name
	image.Digest = repositoryOf(name) + "@" + target.Digest.String()
	return &image, nil
}

func (r *Runtime) readImage(ctx context.Context, target ocispec.Descriptor) (localImage, error) {
	store := r.client.ContentStore()
	manifest, err := images.Manifest(ctx, store, target, platforms.Default())
	if err != nil {
		return localImage{}, err
	}
	data, err := content.ReadBlob(ctx, store, manifest.Config)
	if err != nil {
		return localImage{}, err
	}
	var config ocispec.Image
	if err := json.Unmarshal(data, &config); err != nil {
		return localImage{}, fmt.Errorf("decode image configuration %s: %w", manifest.Config.Digest, err)
	}
	chain := identity.ChainID(config.RootFS.DiffIDs).String()
	if _, err := r.client.SnapshotService(r.options.Snapshotter).Stat(ctx, chain); err != nil {
		return localImage{}, err
	}
	size := manifest.Config.Size + target.Size
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return localImage{chainID: chain, Image: runtime.Image{
		ID: manifest.Config.Digest.String(), Size: size,
		Entrypoint: config.Config.Entrypoint, Cmd: config.Config.Cmd, Env: config.Config.Env,
		WorkingDir: config.Config.WorkingDir, User: config.Config.User, StopSignal: config.Config.StopSignal,
	}}, nil
}
