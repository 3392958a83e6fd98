package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/images"
	"github.com/keelson-dev/keelson/nodeagent/preload"
)

// oneImage is an archive's.
type oneImage string

func (o oneImage) ImportImages(context.Context, io.Reader) ([]string, error) {
	return []string{string(o)}, nil
}

// An image is looked for when the archives have been read, and they stay wanted.
func TestArchivesComeFirstAndStay(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.tar"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := &agent{admitted: newAdmittedPods()}
	a.preloaded = preload.NewFolder(preload.Options{
		Path: dir, Importer: oneImage("example.org/app:1"), Clock: clock.RealClock{}, Imported: func() {},
		Here: func(context.Context, string) (bool, error) { return true, nil },
	})
	service := a.preloadedFirst(puller{events: []string{images.EventPulled}})

	early, cancel := context.WithCancel(t.Context())
	cancel()
	asked := 0
	if _, err := service.Ensure(early, images.Request{}, func(images.Event) { asked++ }); !errors.Is(err, context.Canceled) || asked > 0 {
		t.Errorf("before the archives were read it asked %d times: %v", asked, err)
	}

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.preloaded.Run(ctx) })
	defer running.Wait()
	defer stop()
	if _, err := service.Ensure(t.Context(), images.Request{}, func(images.Event) { asked++ }); err != nil || asked != 1 {
		t.Errorf("afterwards it asked %d times: %v", asked, err)
	}
	if diff := cmp.Diff([]string{"example.org/app:1"}, a.wantedImages()); diff != "" {
		t.Errorf("images that must stay (-want +got):\n%s", diff)
	}
}

func TestWithoutAFolderNobodyWaits(t *testing.T) {
	next := puller{}
	if got, same := (&agent{}).preloadedFirst(next).(puller); !same {
		t.Errorf("images go through %T", got)
	}
}
