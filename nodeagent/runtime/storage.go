package runtime

import (
	"context"
	"time"
)

// Storage looks after what images, containers and their logs take of the machine's
// disks. Every method may be repeated after a crash at any point.
type Storage interface {
	// Peek returns what List does, from memory: the runtime is asked only when events may
	// have been missed.
	Peek(ctx context.Context) ([]PodState, error)

	// Images returns every image on this machine, each once, whatever its names.
	Images(ctx context.Context) ([]StoredImage, error)

	// RemoveImage removes the image with this StoredImage.ID and all its names, and
	// returns when its space is free. One that is gone is no error. Containers made of it
	// keep their files.
	RemoveImage(ctx context.Context, id string) error

	// ImageFolder is a folder on the file system that holds images and the writable
	// layers of containers.
	ImageFolder(ctx context.Context) (string, error)

	// ContainerUsage measures the writable layer of a container; it walks through it. The
	// zero value for one that is gone.
	ContainerUsage(ctx context.Context, containerID string) (DiskUsage, error)

	// ReopenLog makes whoever writes the log of a running container open the file at its
	// path again, after it was renamed. It may return before that has happened; what is
	// written until then goes to the file that was renamed. One that does not run is no
	// error.
	ReopenLog(ctx context.Context, containerID string) error
}

// StoredImage is an image on this machine.
type StoredImage struct {
	// ID is the digest of the image's configuration; of an image that cannot be used as
	// it is, the digest that its name leads to.
	ID string
	// Names are references by tag, Digests by digest; both sorted.
	Names, Digests []string
	// Size is the sum of the compressed layers in bytes, 0 when it is not known.
	Size int64
	// Pinned images are not to be removed.
	Pinned bool
	// CreatedAt is when the first of its names came to this machine.
	CreatedAt time.Time
}

// DiskUsage is what something takes of a disk.
type DiskUsage struct{ Bytes, Inodes int64 }
