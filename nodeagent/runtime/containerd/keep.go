package containerd

import (
	"context"

	"github.com/containerd/containerd/v2/core/sandbox"
	"github.com/containerd/errdefs"
)

// From 1.7 on containerd, when it starts, ends every shim in which it finds no process, and
// with it goes the exit code of a container that ended while containerd was away. It leaves
// a shim alone that has the name of a sandbox in its sandbox store. So each container that
// runs has an entry of its own name there (ADR 0045), from its start until its exit is stored.
// Nothing else reads the entries: they are no sandboxes of containerd's sandbox API.

// keepShim makes containerd leave the shim of a container that starts alone, however it finds
// it. The object is busy.
func (r *Runtime) keepShim(ctx context.Context, o *object) error {
	if !r.keepsShims.Load() {
		return nil
	}
	o.shimKept = true // also when the answer is lost
	_, err := r.client.SandboxStore().Create(ctx, sandbox.Sandbox{ID: o.id, Runtime: sandbox.RuntimeOpts{Name: runcRuntime}})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return r.explain("keep the shim of container "+o.id, err)
	}
	return nil
}

// noteShim is keepShim for a container that runs in any case.
func (r *Runtime) noteShim(ctx context.Context, o *object) {
	if err := r.keepShim(ctx, o); err != nil {
		r.options.Log.Error(err, "Cannot keep the shim of a container, its exit code is lost when it ends while containerd is away", "container", o.id)
	}
}

// releaseShim undoes keepShim before the task is deleted, so that containerd ends a shim that
// is left when it is interrupted. The object is busy.
func (r *Runtime) releaseShim(ctx context.Context, o *object) error {
	if !o.shimKept {
		return nil
	}
	if err := r.forgetShim(ctx, o.id); err != nil {
		return err
	}
	o.shimKept = false
	return nil
}

func (r *Runtime) forgetShim(ctx context.Context, id string) error {
	if err := r.client.SandboxStore().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return r.explain("release the shim of container "+id, err)
	}
	return nil
}

// keptShims lists the containers whose shims are kept, and learns whether this containerd
// has a sandbox store: it may have been replaced by another version.
func (r *Runtime) keptShims(ctx context.Context) (map[string]bool, error) {
	entries, err := r.client.SandboxStore().List(ctx)
	if errdefs.IsNotImplemented(err) {
		r.keepsShims.Store(false) // 1.6 keeps the shims of all its containers
		return nil, nil
	}
	if err != nil {
		return nil, r.explain("list the shims that are kept", err)
	}
	r.keepsShims.Store(true)
	kept := make(map[string]bool, len(entries))
	for _, entry := range entries {
		kept[entry.ID] = true
	}
	return kept, nil
}
