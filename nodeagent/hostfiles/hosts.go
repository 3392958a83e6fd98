// Package hostfiles renders what a Pod sees in /etc/hosts, /etc/resolv.conf and as
// its host name. It is pure: it reads and writes no file; the caller passes what the
// machine's own files hold.
package hostfiles

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	managedHeader            = "# Kubernetes-managed hosts file.\n"
	managedHeaderHostNetwork = "# Kubernetes-managed hosts file (host network).\n"
	maxHostname              = 63
)

// RenderHosts returns /etc/hosts of a Pod with its own network and these addresses.
func RenderHosts(ips []string, hostname, domain string, aliases []corev1.HostAlias) string {
	var out strings.Builder
	out.WriteString(managedHeader)
	out.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	out.WriteString("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
	for _, ip := range ips {
		if domain != "" {
			fmt.Fprintf(&out, "%s\t%s.%s\t%s\n", ip, hostname, domain, hostname)
		} else {
			fmt.Fprintf(&out, "%s\t%s\n", ip, hostname)
		}
	}
	renderAliases(&out, aliases)
	return out.String()
}

// RenderHostNetworkHosts returns /etc/hosts of a Pod on the machine's network: what
// the machine has, and the Pod's aliases.
func RenderHostNetworkHosts(machine string, aliases []corev1.HostAlias) string {
	var out strings.Builder
	out.WriteString(managedHeaderHostNetwork)
	out.WriteString(machine)
	renderAliases(&out, aliases)
	return out.String()
}

func renderAliases(out *strings.Builder, aliases []corev1.HostAlias) {
	if len(aliases) == 0 {
		return
	}
	out.WriteString("\n# Entries added by HostAliases.\n")
	for _, a := range aliases {
		fmt.Fprintf(out, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
}

// Hostname returns a Pod's host name, cut to 63 characters, and the domain under
// which its subdomain places it (empty without one).
func Hostname(pod *keelsonv1.Pod, clusterDomain string) (hostname, domain string, err error) {
	if o := pod.Spec.HostnameOverride; o != nil {
		if msgs := validation.IsDNS1123Subdomain(*o); len(msgs) > 0 {
			return "", "", fmt.Errorf("spec.hostnameOverride %q is not a DNS name: %s", *o, strings.Join(msgs, "; "))
		}
		return cutHostname(*o), "", nil
	}
	hostname = pod.Name
	if h := pod.Spec.Hostname; h != "" {
		if msgs := validation.IsDNS1123Label(h); len(msgs) > 0 {
			return "", "", fmt.Errorf("spec.hostname %q is not a DNS label: %s", h, strings.Join(msgs, "; "))
		}
		hostname = h
	}
	if s := pod.Spec.Subdomain; s != "" {
		if msgs := validation.IsDNS1123Label(s); len(msgs) > 0 {
			return "", "", fmt.Errorf("spec.subdomain %q is not a DNS label: %s", s, strings.Join(msgs, "; "))
		}
		domain = fmt.Sprintf("%s.%s.svc.%s", s, pod.Namespace, clusterDomain)
	}
	return cutHostname(hostname), domain, nil
}

// maxKernelHostname is what fits into the kernel's name of a machine.
const maxKernelHostname = 64

// KernelHostname is what a Pod's programs get from the kernel as the machine's name: its
// host name, with the domain where the Pod asks for that.
func KernelHostname(pod *keelsonv1.Pod, clusterDomain string) (string, error) {
	hostname, domain, err := Hostname(pod, clusterDomain)
	if err != nil || domain == "" || pod.Spec.SetHostnameAsFQDN == nil || !*pod.Spec.SetHostnameAsFQDN {
		return hostname, err
	}
	full := hostname + "." + domain
	if len(full) > maxKernelHostname {
		return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)",
			full, maxKernelHostname, len(full))
	}
	return full, nil
}

func cutHostname(name string) string {
	if len(name) <= maxHostname {
		return name
	}
	return strings.TrimRight(name[:maxHostname], "-.")
}
