package images

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const gib = int64(1 << 30)

// depot is a disk with images and containers.
type depot struct {
	runtime.Storage
	images     []runtime.StoredImage
	containers []runtime.Container
	wanted     []string
	// used is what takes of the disk of 100 GiB beside images; an image takes twice its size.
	used      int64
	failing   map[string]error
	log       []string
	changes   int
	imagesErr error
}

func (s *depot) Images(context.Context) ([]runtime.StoredImage, error) {
	return slices.Clone(s.images), s.imagesErr
}

func (s *depot) Peek(context.Context) ([]runtime.PodState, error) {
	return []runtime.PodState{{Containers: s.containers}}, nil
}

func (s *depot) RemoveImage(_ context.Context, id string) error {
	if err := s.failing[id]; err != nil {
		return err
	}
	s.images = slices.DeleteFunc(s.images, func(i runtime.StoredImage) bool { return i.ID == id })
	s.log = append(s.log, "remove "+id)
	return nil
}

func (s *depot) disk(context.Context) (capacity, available int64, err error) {
	used := s.used
	for _, image := range s.images {
		used += 2 * image.Size
	}
	return 100 * gib, 100*gib - used, nil
}

func (s *depot) add(id string, size int64, at time.Time) *runtime.StoredImage {
	s.images = append(s.images, runtime.StoredImage{
		ID: "sha256:" + id, Size: size, CreatedAt: at, Names: []string{"docker.io/library/" + id + ":1"},
		Digests: []string{"docker.io/library/" + id + "@sha256:manifest-" + id},
	})
	return &s.images[len(s.images)-1]
}

func (s *depot) collector(p Policy, c *testingclock.FakeClock) *Collector {
	return NewCollector(CollectorOptions{
		Storage: s, Policy: p, Wanted: func() []string { return s.wanted }, Disk: s.disk, Clock: c,
		Warn:    func(reason, message string) { s.log = append(s.log, reason+": "+message) },
		Removed: func(why string) { s.log = append(s.log, "for "+why) },
		Changed: func() { s.changes++ },
	})
}

var upstreamPolicy = Policy{HighPercent: 85, LowPercent: 80, MinAge: 2 * time.Minute}

func TestCollect(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		policy  Policy
		prepare func(s *depot, c *testingclock.FakeClock)
		want    []string
		wantErr string
	}{
		"below the high threshold nothing goes": {upstreamPolicy, func(s *depot, _ *testingclock.FakeClock) {
			s.add("a", gib, start)
			s.used = 82 * gib
		}, nil, ""},
		"down to the low threshold, the oldest of those never used first": {upstreamPolicy, func(s *depot, _ *testingclock.FakeClock) {
			s.add("new", 2*gib, start.Add(time.Second))
			s.add("old", 2*gib, start)
			s.add("newest", 2*gib, start.Add(2*time.Second))
			s.used = 75 * gib // 87 with all images: two of 4 GiB make 79
		}, []string{"remove sha256:old", "for space", "remove sha256:new", "for space"}, ""},
		"what is used stays, by whatever name": {upstreamPolicy, func(s *depot, _ *testingclock.FakeClock) {
			for _, id := range []string{"by-digest", "by-name", "by-pod", "by-id", "unused"} {
				s.add(id, gib, start)
			}
			s.containers = []runtime.Container{
				{State: runtime.Exited, ImageID: "docker.io/library/by-digest@sha256:manifest-by-digest"}, {State: runtime.Running, Image: "by-name:1"},
			}
			s.wanted = []string{"by-pod:1", "sha256:by-id"}
			s.used = 90 * gib
		}, []string{"remove sha256:unused", "for space", "FreeDiskSpaceFailed: Insufficient free disk space on the node's image filesystem (100% of 100.0 GiB used). " +
			"Failed to free sufficient space by deleting unused images (freed 2147483648 bytes). Investigate disk usage, as it could be used by active images, logs, volumes, or other data."},
			"Insufficient free disk space"},
		"pinned and new ones stay": {upstreamPolicy, func(s *depot, c *testingclock.FakeClock) {
			s.add("pinned", gib, start).Pinned = true
			s.add("new", gib, c.Now().Add(-time.Minute))
			s.add("other", 5*gib, start)
			s.used = 76 * gib
		}, []string{"remove sha256:other", "for space"}, ""},
		"one that cannot be removed does not keep others": {upstreamPolicy, func(s *depot, _ *testingclock.FakeClock) {
			s.add("stuck", 2*gib, start)
			s.add("other", 2*gib, start.Add(time.Second))
			s.failing = map[string]error{"sha256:stuck": errors.New("read-only file system")}
			s.used = 78 * gib
		}, []string{"remove sha256:other", "for space"}, "removing image sha256:stuck: read-only file system"},
		"100 switches space off": {Policy{HighPercent: 100, LowPercent: 80}, func(s *depot, _ *testingclock.FakeClock) {
			s.add("a", gib, start)
			s.used = 98 * gib
		}, nil, ""},
		"old ones go although there is space": {Policy{HighPercent: 85, LowPercent: 80, MaxAge: time.Hour}, func(s *depot, c *testingclock.FakeClock) {
			s.add("old", gib, start)
			s.add("young", gib, c.Now().Add(-time.Minute))
		}, []string{"remove sha256:old", "for age"}, ""},
		"a list that cannot be read removes nothing": {upstreamPolicy, func(s *depot, _ *testingclock.FakeClock) {
			s.add("a", gib, start)
			s.used, s.imagesErr = 98*gib, errors.New("down")
		}, nil, "listing images: down"},
	} {
		t.Run(name, func(t *testing.T) {
			c := testingclock.NewFakeClock(start)
			s := &depot{}
			collector := s.collector(test.policy, c)
			c.Step(2 * time.Hour)
			test.prepare(s, c)
			err := collector.Collect(t.Context())
			if fmt.Sprint(err) != "<nil>" && test.wantErr == "" || test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)) {
				t.Errorf("error %v, want %q", err, test.wantErr)
			}
			if diff := cmp.Diff(test.want, s.log); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLeastRecentlyUsedGoesFirst(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := testingclock.NewFakeClock(start)
	s := &depot{used: 50 * gib}
	for i, id := range []string{"first", "second", "third"} { // used in the order third, first; second never
		s.add(id, 2*gib, start.Add(time.Duration(i)*time.Second))
	}
	collector := s.collector(upstreamPolicy, c)
	use := func(ids ...string) {
		t.Helper()
		c.Step(10 * time.Minute)
		s.containers = nil
		for _, id := range ids {
			s.containers = append(s.containers, runtime.Container{Image: id + ":1"})
		}
		if err := collector.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	use("third")
	use("first")
	use()
	if err := collector.RemoveUnused(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"remove sha256:second", "for space", "remove sha256:third", "for space", "remove sha256:first", "for space"}
	if diff := cmp.Diff(want, s.log); diff != "" {
		t.Error(diff)
	}
	if left := collector.Images(); len(left) != 0 || s.changes != 4 {
		t.Errorf("images %v, %d changes told, want the first list and three removals", left, s.changes)
	}
}
