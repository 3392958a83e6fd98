package agent

import "fmt"

// Cgroup drivers, as the kubelet names them.
const (
	cgroupfsDriver = "cgroupfs"
	systemdDriver  = "systemd"
)

// validateCgroupDriver refuses what the agent cannot do: nothing here asks systemd for
// slices and scopes, and containerd's runc is told paths of cgroupfs.
func (o *Options) validateCgroupDriver() error {
	switch o.CgroupDriver {
	case cgroupfsDriver:
		return nil
	case systemdDriver:
		return fmt.Errorf("--cgroup-driver: systemd is not supported: use cgroupfs, which works beside systemd in a cgroup of its own, --cgroup-root, "+
			"now %s", o.CgroupRoot)
	default:
		return fmt.Errorf("--cgroup-driver: %q is not a driver: cgroupfs is the only one", o.CgroupDriver)
	}
}
