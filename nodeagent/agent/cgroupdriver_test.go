package agent

import "testing"

func TestCgroupDriver(t *testing.T) {
	for driver, want := range map[string]string{
		"cgroupfs": "",
		"systemd":  "--cgroup-driver: systemd is not supported: use cgroupfs, which works beside systemd in a cgroup of its own, --cgroup-root, now /keelson",
		"docker":   `--cgroup-driver: "docker" is not a driver: cgroupfs is the only one`,
	} {
		o := NewOptions()
		o.Kubeconfig, o.CgroupDriver = "/etc/keelson/kubeconfig", driver
		got := ""
		if err := o.Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", driver, got, want)
		}
	}
}
