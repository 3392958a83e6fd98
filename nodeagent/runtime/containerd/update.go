package containerd

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// UpdateContainer implements runtime.Runtime. What the kernel was given is stored
// afterwards: a process that dies in between leaves old resources stored, and whoever
// compares them with what is wanted makes the same update once more.
func (r *Runtime) UpdateContainer(ctx context.Context, id string, resources runtime.Resources) error {
	if err := r.ensureSynced(ctx); err != nil {
		return err
	}
	o := r.objects.get(id)
	if o == nil {
		return fmt.Errorf("update the resources of container %s: it does not exist", id)
	}
	o.busy.Lock()
	defer o.busy.Unlock()
	f := r.objects.facts(o)
	if !f.running {
		return fmt.Errorf("update the resources of container %s: it does not run", id)
	}
	limits := linuxResources(resources, r.machine)
	limits.Devices, limits.Unified = nil, nil // as they were made
	encoded, err := typeurl.MarshalAnyToProto(limits)
	if err != nil {
		return fmt.Errorf("encode the resources of container %s: %w", id, err)
	}
	_, err = r.client.TaskService().Update(ctx, &tasks.UpdateTaskRequest{ContainerID: id, Resources: encoded})
	if err = native(err); errdefs.IsNotFound(err) {
		return fmt.Errorf("update the resources of container %s: it does not run", id)
	}
	if err != nil {
		return r.explain("update the resources of container "+id, err)
	}
	after := f.status
	after.Resources = &resources
	if err := r.store(ctx, o, after); err != nil {
		return err
	}
	r.objects.change(o, func(f *facts) { f.status.Resources = &resources })
	return nil
}
