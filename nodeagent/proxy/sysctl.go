package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/klog/v2"
)

// sysctl sets what the rules need of the kernel.
type sysctl interface {
	// allowLoopback makes node ports and host ports work on 127.0.0.1. The rule that
	// guards loopback addresses must be in force.
	// Without wanted it does nothing.
	allowLoopback(ctx context.Context, wanted bool) error
}

// interfaceSettings has a folder for each interface of this network namespace.
const interfaceSettings = "/proc/sys/net/ipv4/conf"

// kernelSysctl writes to /proc/sys.
type kernelSysctl struct {
	// podInterfaces begins the name of every Pod's interface.
	podInterfaces string
}

// allowLoopback implements sysctl. It turns route_localnet on for the interfaces of
// Pods, and not for all as kube-proxy does: the setting is gone with the Pod, and
// other wires stay closed.
func (k kernelSysctl) allowLoopback(ctx context.Context, wanted bool) error {
	if k.podInterfaces == "" || !wanted {
		return nil
	}
	interfaces, err := os.ReadDir(interfaceSettings)
	if err != nil {
		return fmt.Errorf("allowing node ports on 127.0.0.1: %w", err)
	}
	for _, entry := range interfaces {
		if !strings.HasPrefix(entry.Name(), k.podInterfaces) {
			continue
		}
		switch changed, err := switchOn(filepath.Join(interfaceSettings, entry.Name(), "route_localnet")); {
		case errors.Is(err, fs.ErrNotExist): // the Pod is gone
		case err != nil:
			return fmt.Errorf("allowing node ports on 127.0.0.1: %w", err)
		case changed:
			klog.FromContext(ctx).V(2).Info("Allowed node ports on 127.0.0.1", "interface", entry.Name())
		}
	}
	return nil
}

// switchOn writes 1 to a setting that has another value.
func switchOn(path string) (changed bool, err error) {
	now, err := os.ReadFile(path)
	if err != nil || bytes.Equal(bytes.TrimSpace(now), []byte("1")) {
		return false, err
	}
	return true, os.WriteFile(path, []byte("1"), 0o644)
}

// nothingToSet is for IPv6, where the kernel knows no such setting.
type nothingToSet struct{}

// allowLoopback implements sysctl.
func (nothingToSet) allowLoopback(context.Context, bool) error { return nil }
