// Package containerd runs sandboxes and containers on a containerd daemon.
//
// Everything it creates lies in one containerd namespace; other namespaces are never
// read or written. What it must know later is stored with containerd's own container
// objects (record when created, status when started and when ended), so there is no
// second database: a new process, or this one after the daemon's restart, reads them
// again (resync) and settles what happened meanwhile. The table in memory only saves
// asking.
//
// It never touches the output of ordinary containers: a logger program of each, which
// its shim starts, writes that into the log file, whether this process runs or not. The
// streams of containers with an input or a terminal pass through this process (relay);
// their shim holds the pipes open while there is none. A process that starts ends the
// commands that clients of an earlier one had started.
//
// The order that makes every crash harmless: a container's object is created before
// its file system, the exit is stored before the shim is released and the task deleted,
// announced after that, and the object is deleted before its files.
package containerd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	runcRuntime = "io.containerd.runc.v2"
	infoTimeout = 5 * time.Second
)

// Runtime implements runtime.Runtime. It outlives restarts of the daemon.
type Runtime struct {
	options Options
	client  *client.Client
	// pauseRoot is the root folder of pause containers.
	pauseRoot string
	machine   machine
	objects   *table
	images    imageCache
	// keepsShims says that containerd has a sandbox store, see keepShim.
	keepsShims atomic.Bool
	events     broadcaster

	// resyncing admits one resync at a time; swept is guarded by it.
	resyncing sync.Mutex
	swept     bool
	trust     trust

	stop   context.CancelFunc
	closed <-chan struct{} // ends with the context given to New, or Close
	done   sync.WaitGroup
}

var _ runtime.Runtime = (*Runtime)(nil)

// New returns a Runtime that follows the daemon at options.Address until ctx ends or
// Close. The daemon need not run yet: methods fail until it answers.
func New(ctx context.Context, options Options) (*Runtime, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("containerd runtime: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(options.StateDir, "sandboxes"), 0o711); err != nil {
		return nil, fmt.Errorf("containerd runtime: create state folder: %w", err)
	}
	pause, err := makePauseRoot(options.StateDir)
	if err != nil {
		return nil, fmt.Errorf("containerd runtime: %w", err)
	}
	// The daemon may be away for long: try again often, a Unix socket costs nothing.
	connect := grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: time.Second,
	})
	c, err := client.New(options.Address, client.WithDefaultNamespace(options.Namespace), client.WithExtraDialOpts([]grpc.DialOption{connect}))
	if err != nil {
		return nil, fmt.Errorf("containerd runtime: %w", err)
	}
	follow, stop := context.WithCancel(ctx)
	r := &Runtime{
		options: options, client: c, pauseRoot: pause, machine: readMachine(),
		objects: newTable(), stop: stop, closed: follow.Done(),
	}
	r.done.Go(func() { r.follow(follow) })
	return r, nil
}

// Close stops following. Containers run on, and so do the loggers of their output.
func (r *Runtime) Close() error {
	r.stop()
	r.done.Wait()
	return r.client.Close()
}

// Info implements runtime.Runtime.
func (r *Runtime) Info(ctx context.Context) (runtime.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	version, err := r.client.VersionService().Version(ctx, &emptypb.Empty{})
	if err != nil {
		return runtime.Info{}, r.explain("ask for its version", err)
	}
	return runtime.Info{Name: "containerd", Version: version.Version}, nil
}

// List implements runtime.Runtime. It compares the table with containerd.
func (r *Runtime) List(ctx context.Context) ([]runtime.PodState, error) {
	if err := r.resync(ctx); err != nil {
		return nil, err
	}
	return r.objects.all(), nil
}

// Pod implements runtime.Runtime. It asks containerd only when events may have been
// missed.
func (r *Runtime) Pod(ctx context.Context, uid types.UID) (runtime.PodState, error) {
	if err := r.ensureSynced(ctx); err != nil {
		return runtime.PodState{}, err
	}
	return r.objects.pod(uid), nil
}

// Events implements runtime.Runtime.
func (r *Runtime) Events(ctx context.Context) <-chan runtime.Event { return r.events.subscribe(ctx) }

// ensureSynced compares when the table cannot be trusted.
func (r *Runtime) ensureSynced(ctx context.Context) error {
	if r.trust.holds() {
		return nil
	}
	r.resyncing.Lock()
	defer r.resyncing.Unlock()
	if r.trust.holds() { // whoever was here before has compared
		return nil
	}
	return r.resyncLocked(ctx)
}

// explain wraps an error of a call to containerd with what was tried.
func (r *Runtime) explain(tried string, err error) error {
	err = native(err)
	if errdefs.IsUnavailable(err) {
		return fmt.Errorf("cannot reach containerd at %s: %w; is it running?", r.options.Address, err)
	}
	return fmt.Errorf("containerd: %s: %w", tried, err)
}

// native makes containerd's error classes of gRPC's. Some of the client's services
// have done so already.
func native(err error) error {
	if _, isGRPC := grpcstatus.FromError(err); err == nil || !isGRPC {
		return err
	}
	return errgrpc.ToNative(err)
}
