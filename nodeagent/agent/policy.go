package agent

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilsysctl "k8s.io/component-helpers/node/util/sysctl"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/staticpods"
)

// Reasons of Pods that this node does not allow, beside reasonFailedValidation; the first is
// upstream's.
const (
	reasonSysctlForbidden     = "SysctlForbidden"
	reasonPrivilegedForbidden = "PrivilegedForbidden"
)

// safeSysctls have no effect beyond the Pod that sets them, as upstream's list. All of
// them have namespaces in every kernel since Linux 4.15.
var safeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem",
	"net.ipv4.tcp_wmem", "net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_notsent_lowat",
}

// checkAllowed refuses a Pod that would do what no Pod may, or what this node's owner does not
// allow, however it came here. It is asked again when the Pod has changed, and by a new agent
// of Pods that run.
func (o *Options) checkAllowed(pod *keelsonv1.Pod) *refusal {
	if r := o.checkPolicy(pod); r != nil {
		return r
	}
	if errs := staticpods.ValidateSecurity(&pod.Spec); len(errs) > 0 {
		return &refusal{reasonFailedValidation, errs.ToAggregate().Error()}
	}
	return nil
}

// checkPolicy refuses a Pod that asks for what this node's owner does not allow.
func (o *Options) checkPolicy(pod *keelsonv1.Pod) *refusal {
	if name := privilegedContainer(pod); name != "" && !o.AllowPrivileged {
		return &refusal{reasonPrivilegedForbidden, fmt.Sprintf("container %s is privileged, which this node forbids (--allow-privileged=false)", name)}
	}
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		if err := checkSysctl(s.Name, pod, o.AllowedUnsafeSysctls); err != nil {
			return &refusal{reasonSysctlForbidden, fmt.Sprintf("forbidden sysctl: %v", err)}
		}
	}
	return nil
}

func privilegedContainer(pod *keelsonv1.Pod) string {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if s := list[i].SecurityContext; s != nil && s.Privileged != nil && *s.Privileged {
				return list[i].Name
			}
		}
	}
	return ""
}

// checkSysctl says why pod must not set a sysctl. One of a namespace that the Pod shares
// with the machine would change the machine.
func checkSysctl(name string, pod *keelsonv1.Pod, unsafe []string) error {
	name = utilsysctl.NormalizeName(name)
	if !slices.Contains(safeSysctls, name) && !slices.ContainsFunc(unsafe, func(pattern string) bool { return matchesSysctl(pattern, name) }) {
		return fmt.Errorf("%q not allowlisted", name)
	}
	ns, _, _ := utilsysctl.GetNamespace(name)
	shared := map[utilsysctl.Namespace]bool{
		utilsysctl.IPCNamespace: pod.Spec.HostIPC, utilsysctl.NetNamespace: pod.Spec.HostNetwork,
		utilsysctl.UserNamespace: pod.Spec.HostUsers == nil || *pod.Spec.HostUsers,
	}
	if shared[ns] {
		return fmt.Errorf("%q not allowed with host %s enabled", name, ns)
	}
	return nil
}

func matchesSysctl(pattern, name string) bool {
	pattern = utilsysctl.NormalizeName(pattern)
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

func (o *Options) validatePolicy() []error {
	var problems []error
	for _, pattern := range o.AllowedUnsafeSysctls {
		ns, _, _ := utilsysctl.GetNamespace(pattern)
		star := strings.IndexByte(pattern, '*')
		switch {
		case star >= 0 && star < len(pattern)-1:
			problems = append(problems, fmt.Errorf("--allowed-unsafe-sysctls: %q: a * may stand only at the end, as in kernel.msg*", pattern))
		case ns == utilsysctl.UnknownNamespace:
			problems = append(problems, fmt.Errorf("--allowed-unsafe-sysctls: the sysctls %q are not known to be namespaced", pattern))
		}
	}
	return problems
}
