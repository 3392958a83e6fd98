package containerd_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// namespacesOf lists what the daemon has.
func namespacesOf(t *testing.T, c *client.Client) []string {
	t.Helper()
	names, err := c.NamespaceService().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// layers counts the folders of the daemon's overlay snapshots.
func layers(t *testing.T, root string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "root/io.containerd.snapshotter.v1.overlayfs/snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestRemoveNamespace(t *testing.T) {
	f := newFixture(t)
	other, err := client.New(f.daemon.Address(), client.WithDefaultNamespace("other"))
	f.must(err)
	t.Cleanup(func() { _ = other.Close() })
	_, err = other.Pull(t.Context(), f.busybox.Ref, client.WithPullUnpack, client.WithPullSnapshotter("overlayfs"))
	f.must(err)

	p := f.newPod()
	p.run(p.config("main", "sleep", "1000"))
	if err := f.RemoveNamespace(t.Context()); err == nil || !strings.Contains(err.Error(), "still holds 1 Pods") {
		t.Errorf("with a Pod: %v", err)
	}
	state, err := f.Pod(t.Context(), p.identity.UID)
	f.must(err)
	f.removePod(t.Context(), state)

	// What a killed pull leaves, and what its lease or a label protects.
	own := f.client()
	_, err = own.LeasesService().Create(t.Context(), leases.WithID("killed-pull"))
	f.must(err)
	protected := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "now"})
	ctx := namespaces.WithNamespace(t.Context(), "keelson")
	_, err = own.SnapshotService("overlayfs").Prepare(ctx, "below", "", protected)
	f.must(err)
	f.must(own.SnapshotService("overlayfs").Commit(ctx, "committed", "below", protected))
	_, err = own.SnapshotService("overlayfs").Prepare(ctx, "above", "committed", protected)
	f.must(err)
	writer, err := content.OpenWriter(ctx, own.ContentStore(), content.WithRef("killed"))
	f.must(err)
	_, err = writer.Write([]byte("half of a layer"))
	f.must(err)
	f.must(writer.Close())

	for range 2 { // it may be repeated
		f.must(f.RemoveNamespace(t.Context()))
		if got := namespacesOf(t, own); !slices.Equal(got, []string{"other"}) {
			t.Errorf("namespaces are %v", got)
		}
	}
	if got, err := other.GetImage(t.Context(), f.busybox.Ref); err != nil {
		t.Errorf("the image of the other namespace is gone: %v", err)
	} else if unpacked, err := got.IsUnpacked(t.Context(), "overlayfs"); err != nil || !unpacked {
		t.Errorf("the other namespace's image lost its layers: %v, %v", unpacked, err)
	}
	f.must(other.ImageService().Delete(t.Context(), f.busybox.Ref))
	f.eventually("no layer is left", func() bool { return layers(t, f.daemon.Dir()) == 0 })

	if got := f.pull(f.push("again:1", nil)); got.ID == "" {
		t.Error("the runtime does not work any more")
	}
}
