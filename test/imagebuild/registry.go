package imagebuild

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Registry is an image registry in this process, on loopback over plain HTTP, which
// containerd accepts for loopback names. Its images end with it.
type Registry struct {
	// Host is its "address:port", the first part of its image names.
	Host   string
	server *http.Server
}

// StartRegistry serves an empty registry on a loopback address such as
// "127.0.0.1:0". Wrap, when given, stands in front of it: for tests that need
// refusals or delays.
func StartRegistry(address string, wrap func(http.Handler) http.Handler) (*Registry, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start image registry: %w", err)
	}
	handler := wholeBlobs(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	if wrap != nil {
		handler = wrap(handler)
	}
	r := &Registry{
		Host:   listener.Addr().String(),
		server: &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second},
	}
	go func() { _ = r.server.Serve(listener) }() // ends with Close
	return r, nil
}

// wholeBlobs answers with whole blobs to who wants the rest of one, as a server may. The
// library's handler refuses ranges without an end, and containerd, which asks for one
// after an interrupted download, never gets the image then.
func wholeBlobs(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("Range"), "-") {
			r = r.Clone(r.Context())
			r.Header.Del("Range")
		}
		handler.ServeHTTP(w, r)
	})
}

// Close ends the registry.
func (r *Registry) Close() error { return r.server.Close() }

// Push stores image under repository, "name:tag" without the host, and returns the
// name to pull it by and its digest.
func (r *Registry) Push(ctx context.Context, image v1.Image, repository string) (ref, digest string, err error) {
	ref = r.Host + "/" + repository
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return "", "", err
	}
	if err := remote.Write(parsed, image, remote.WithContext(ctx)); err != nil {
		return "", "", fmt.Errorf("push %s: %w", ref, err)
	}
	hash, err := image.Digest()
	if err != nil {
		return "", "", err
	}
	return ref, hash.String(), nil
}
