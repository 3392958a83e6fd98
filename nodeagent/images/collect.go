package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Reasons of events about the Node, as the kubelet's.
const (
	EventImageGCFailed       = "ImageGCFailed"
	EventFreeDiskSpaceFailed = "FreeDiskSpaceFailed"
	EventInvalidDiskCapacity = "InvalidDiskCapacity"
)

// Why an image was removed, as the kubelet's metric says.
const (
	RemovedForAge   = "age"
	RemovedForSpace = "space"
)

const (
	// collectInterval is how often the disk is looked at, as upstream.
	collectInterval = 5 * time.Minute
	// settleTime is how long after a pull the list of images is read again: pulls come in
	// groups.
	settleTime = 5 * time.Second
)

// Policy says when images are removed.
type Policy struct {
	// HighPercent is how full the disk of images may be, LowPercent how full it is after
	// images were removed. 100 for HighPercent: images are not removed for space.
	HighPercent, LowPercent int
	// MinAge is how long an image stays after it came; MaxAge how long one stays that
	// nobody uses, 0 for ever.
	MinAge, MaxAge time.Duration
}

// CollectorOptions are what a Collector works with.
type CollectorOptions struct {
	Storage runtime.Storage
	Policy  Policy
	// Wanted are references that Pods of this node name, beside those of containers.
	Wanted func() []string
	// Disk is the file system of images, in bytes.
	Disk func(ctx context.Context) (capacity, available int64, err error)
	// Warn records a warning about the Node. Removed counts an image removed.
	Warn    func(reason, message string)
	Removed func(why string)
	// Changed is called when the list of images has.
	Changed func()
	Clock   clock.WithTicker
}

// Collector removes images that nobody uses, the least recently used first, and knows
// which ones there are. It keeps in memory when an image was used last: after a crash an
// image counts from when it came to this machine.
type Collector struct {
	CollectorOptions
	pulled chan struct{}
	// working is held while images are removed.
	working sync.Mutex
	started time.Time

	mu       sync.Mutex
	lastUsed map[string]time.Time
	list     []runtime.StoredImage
}

// NewCollector returns a Collector.
func NewCollector(o CollectorOptions) *Collector {
	return &Collector{CollectorOptions: o, pulled: make(chan struct{}, 1), started: o.Clock.Now(), lastUsed: map[string]time.Time{}}
}

// Pulled says that an image has come.
func (c *Collector) Pulled() {
	select {
	case c.pulled <- struct{}{}:
	default: // one is waiting already
	}
}

// Images returns the images of this node, as last read, nil before; nobody may change them.
func (c *Collector) Images() []runtime.StoredImage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list
}

// Run looks at images and their disk until ctx ends.
func (c *Collector) Run(ctx context.Context) {
	ticker := c.Clock.NewTicker(collectInterval)
	defer ticker.Stop()
	failed := false
	collect := func() {
		err := c.Collect(ctx)
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot collect images, will retry")
			if failed { // once may be a runtime that starts
				c.Warn(EventImageGCFailed, err.Error())
			}
		}
		failed = err != nil
	}
	collect()
	settled := c.Clock.NewTimer(settleTime)
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.pulled:
			settled.Reset(settleTime)
		case <-settled.C():
			if _, err := c.look(ctx, c.Clock.Now()); err != nil && ctx.Err() == nil {
				klog.FromContext(ctx).Error(err, "Cannot list the images, will retry")
			}
		case <-ticker.C():
			collect()
		}
	}
}

// Collect removes images that are too old, and more when the disk is too full.
func (c *Collector) Collect(ctx context.Context) error {
	c.working.Lock()
	defer c.working.Unlock()
	now := c.Clock.Now()
	unused, err := c.look(ctx, now)
	if err != nil {
		return err
	}
	if c.Policy.MaxAge > 0 && now.Sub(c.started) > c.Policy.MaxAge {
		var old []candidate
		old, unused = splitOld(unused, now, c.Policy.MaxAge)
		for _, image := range old {
			if err := c.remove(ctx, image, RemovedForAge); err != nil {
				return fmt.Errorf("wanted to free images older than %v: %w", c.Policy.MaxAge, err)
			}
		}
	}
	if c.Policy.HighPercent >= 100 {
		return nil
	}
	return c.keepSpace(ctx, unused, now)
}

// RemoveUnused removes every image that nobody uses and that is not new.
func (c *Collector) RemoveUnused(ctx context.Context) error {
	c.working.Lock()
	defer c.working.Unlock()
	now := c.Clock.Now()
	unused, err := c.look(ctx, now)
	if err != nil {
		return err
	}
	_, err = c.free(ctx, unused, now, math.MaxInt64)
	return err
}

// keepSpace frees what is needed to come from above the high to the low threshold.
func (c *Collector) keepSpace(ctx context.Context, unused []candidate, now time.Time) error {
	capacity, available, err := c.Disk(ctx)
	if err != nil {
		return fmt.Errorf("measuring the disk of images: %w", err)
	}
	if capacity == 0 {
		c.Warn(EventInvalidDiskCapacity, "invalid capacity 0 on image filesystem")
		return errors.New("invalid capacity 0 on image filesystem")
	}
	used, wanted := toFree(c.Policy, capacity, available)
	if wanted <= 0 {
		return nil
	}
	klog.FromContext(ctx).Info("The disk of images is too full", "usedPercent", used, "highThreshold", c.Policy.HighPercent,
		"lowThreshold", c.Policy.LowPercent, "toFree", wanted)
	freed, err := c.free(ctx, unused, now, wanted)
	if err != nil || freed >= wanted {
		return err
	}
	message := fmt.Sprintf("Insufficient free disk space on the node's image filesystem (%d%% of %s used). "+
		"Failed to free sufficient space by deleting unused images (freed %d bytes). "+
		"Investigate disk usage, as it could be used by active images, logs, volumes, or other data.",
		used, sizeText(capacity), freed)
	c.Warn(EventFreeDiskSpaceFailed, message)
	return errors.New(message)
}

// toFree says how full the disk is in percent, and how many bytes are to be freed; 0 or
// less for none.
func toFree(p Policy, capacity, available int64) (usedPercent int, bytes int64) {
	available = min(available, capacity)
	usedPercent = 100 - int(available*100/capacity)
	if usedPercent < p.HighPercent {
		return usedPercent, 0
	}
	return usedPercent, capacity*int64(100-p.LowPercent)/100 - available
}

// free removes images in their order until so many bytes are free. What a removal has
// freed is measured: layers are shared, and compressed sizes say little.
func (c *Collector) free(ctx context.Context, unused []candidate, now time.Time, wanted int64) (int64, error) {
	_, before, err := c.Disk(ctx)
	if err != nil {
		return 0, fmt.Errorf("measuring the disk of images: %w", err)
	}
	var freed int64
	var errs []error
	for _, image := range unused {
		if now.Sub(image.CreatedAt) < c.Policy.MinAge {
			continue
		}
		if err := c.remove(ctx, image, RemovedForSpace); err != nil {
			errs = append(errs, err)
			continue
		}
		_, available, err := c.Disk(ctx)
		if err != nil {
			return freed, fmt.Errorf("measuring the disk of images: %w", err)
		}
		if freed = max(available-before, 0); freed >= wanted {
			break
		}
	}
	return freed, errors.Join(errs...)
}

func (c *Collector) remove(ctx context.Context, image candidate, why string) error {
	if err := c.Storage.RemoveImage(ctx, image.ID); err != nil {
		return fmt.Errorf("removing image %s: %w", image.ID, err)
	}
	klog.FromContext(ctx).Info("Removed an image", "image", image.ID, "names", image.Names, "size", image.Size, "why", why)
	c.Removed(why)
	c.mu.Lock()
	c.list = slices.DeleteFunc(slices.Clone(c.list), func(i runtime.StoredImage) bool { return i.ID == image.ID })
	delete(c.lastUsed, image.ID)
	c.mu.Unlock()
	c.Changed()
	return nil
}

// candidate is an image that nobody uses.
type candidate struct {
	runtime.StoredImage
	lastUsed time.Time
}

// look reads which images there are and who uses them, and returns those that nobody
// does, in the order in which they are to go.
func (c *Collector) look(ctx context.Context, now time.Time) ([]candidate, error) {
	// Images first: one that comes after is not in the list, and a container that is made
	// after it is seen.
	all, err := c.Storage.Images(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	pods, err := c.Storage.Peek(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the containers: %w", err)
	}
	used := usedBy(pods, c.Wanted())
	c.mu.Lock()
	changed := c.list == nil || !slices.EqualFunc(c.list, all, func(a, b runtime.StoredImage) bool {
		return a.ID == b.ID && slices.Equal(a.Names, b.Names) && slices.Equal(a.Digests, b.Digests)
	})
	c.list = append([]runtime.StoredImage{}, all...) // not nil: it is known now
	seen := make(map[string]time.Time, len(all))
	for _, image := range all {
		seen[image.ID] = c.lastUsed[image.ID]
		if used.uses(image) {
			seen[image.ID] = now
		}
	}
	c.lastUsed = seen
	c.mu.Unlock()
	if changed {
		c.Changed()
	}
	return unusedOf(all, used, seen), nil
}

// unusedOf returns the images that may go, the least recently used first.
func unusedOf(all []runtime.StoredImage, used references, lastUsed map[string]time.Time) []candidate {
	var unused []candidate
	for _, image := range all {
		if !image.Pinned && !used.uses(image) {
			unused = append(unused, candidate{image, lastUsed[image.ID]})
		}
	}
	slices.SortStableFunc(unused, func(a, b candidate) int {
		return cmp.Or(a.lastUsed.Compare(b.lastUsed), a.CreatedAt.Compare(b.CreatedAt))
	})
	return unused
}

// splitOld returns the images that nobody has used for longer than maxAge, and the rest.
func splitOld(unused []candidate, now time.Time, maxAge time.Duration) (old, rest []candidate) {
	for _, image := range unused {
		last := image.lastUsed
		if last.Before(image.CreatedAt) {
			last = image.CreatedAt
		}
		if now.Sub(last) > maxAge {
			old = append(old, image)
		} else {
			rest = append(rest, image)
		}
	}
	return old, rest
}

// references are names and digests of images that somebody uses.
type references map[string]bool

// usedBy gathers the images of containers, whether they run or not, and of Pods.
func usedBy(pods []runtime.PodState, wanted []string) references {
	used := references{}
	for _, pod := range pods {
		for _, container := range pod.Containers {
			used.add(container.Image)
			used.add(container.ImageID)
		}
	}
	for _, name := range wanted {
		used.add(name)
	}
	return used
}

func (r references) add(name string) {
	if name == "" {
		return
	}
	r[name] = true // also an image's ID
	if named, err := reference.ParseDockerRef(name); err == nil {
		r[named.String()] = true
	}
	if _, digest, ok := strings.Cut(name, "@"); ok {
		r[digest] = true
	}
}

func (r references) uses(image runtime.StoredImage) bool {
	if r[image.ID] {
		return true
	}
	return slices.ContainsFunc(image.Names, func(name string) bool { return r[name] }) ||
		slices.ContainsFunc(image.Digests, func(name string) bool {
			_, digest, _ := strings.Cut(name, "@")
			return r[name] || r[digest]
		})
}

// sizeText is a size for people, as the kubelet writes it.
func sizeText(bytes int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, unit := float64(bytes), 0
	for ; size >= 1024 && unit < len(units)-1; unit++ {
		size /= 1024
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}
