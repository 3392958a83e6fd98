package containerd

import (
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// bindMount renders one mount of the Pod.
func bindMount(m runtime.Mount) specs.Mount {
	propagation := "rprivate"
	switch m.Propagation {
	case runtime.PropagationHostToContainer:
		propagation = "rslave"
	case runtime.PropagationBidirectional:
		propagation = "rshared"
	}
	access := "rw"
	switch {
	case m.ReadOnly && m.RecursiveReadOnly:
		access = "rro"
	case m.ReadOnly:
		access = "ro"
	}
	options := []string{"rbind", propagation, access}
	if m.NoExec {
		options = append(options, "noexec")
	}
	return specs.Mount{Destination: path.Clean(m.ContainerPath), Type: "bind", Source: m.HostPath, Options: options}
}

// rootPropagation is what the container's root needs for its mounts to propagate, empty
// for the runtime's own choice.
func rootPropagation(mounts []runtime.Mount) string {
	root := ""
	for _, m := range mounts {
		switch m.Propagation {
		case runtime.PropagationBidirectional:
			return "rshared"
		case runtime.PropagationHostToContainer:
			root = "rslave"
		}
	}
	return root
}
