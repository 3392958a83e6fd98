package imagebuild_test

import (
	"io"
	"net/http"
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/keelson-dev/keelson/test/imagebuild"
)

// TestAnInterruptedDownloadGoesOn asks for the rest of a blob as containerd does: with a
// range without an end.
func TestAnInterruptedDownloadGoesOn(t *testing.T) {
	registry := startRegistry(t)
	image, err := imagebuild.Build(imagebuild.Spec{Files: map[string]imagebuild.File{"/a": {Content: []byte("some bytes")}}, Config: v1.Config{Cmd: []string{"sh"}}}, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := registry.Push(t.Context(), image, "thing:v1"); err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	size, err := layers[0].Size()
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]struct {
		status int
		bytes  int64
	}{
		"":           {http.StatusOK, size},
		"bytes=4-":   {http.StatusOK, size}, // the client skips what it has
		"bytes=2-5":  {http.StatusPartialContent, 4},
		"nonsense=4": {http.StatusRequestedRangeNotSatisfiable, -1},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+registry.Host+"/v2/thing/blobs/"+digest.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			request.Header.Set("Range", header)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != want.status || want.bytes >= 0 && n != want.bytes {
			t.Errorf("Range %q: %d and %d bytes (%v), want %d and %d", header, response.StatusCode, n, err, want.status, want.bytes)
		}
	}
}
