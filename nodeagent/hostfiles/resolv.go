package hostfiles

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Limits that resolvers have, as upstream validates them.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

// Resolver is the content of a resolv.conf.
type Resolver struct {
	Nameservers, Searches, Options []string
}

// ClusterDNS is what the cluster offers; without Servers there is no cluster DNS.
type ClusterDNS struct {
	Servers []string
	Domain  string
}

// Notice is something that the Pod's user should hear of as an event.
type Notice struct {
	Reason, Message string
}

// ParseResolver reads a resolv.conf; lines that it does not know are skipped.
func ParseResolver(text string) Resolver {
	var r Resolver
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], ";") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			r.Nameservers = append(r.Nameservers, fields[1])
		case "search", "domain":
			r.Searches = nil // the last one wins
			for _, s := range fields[1:] {
				if s != "." {
					r.Searches = append(r.Searches, strings.TrimSuffix(s, "."))
				}
			}
		case "options":
			r.Options = setOptions(r.Options, fields[1:])
		}
	}
	return r
}

// ServesPods says that a Pod can reach a nameserver: one on a loopback address, such as
// systemd-resolved's 127.0.0.53, is the machine's own.
func (r Resolver) ServesPods() bool {
	return slices.ContainsFunc(r.Nameservers, func(server string) bool {
		ip, err := netip.ParseAddr(server)
		return err == nil && !ip.IsLoopback()
	})
}

// withoutLoopback leaves out the machine's own servers where there are others: in a Pod's
// network nobody answers there, and a DNS server in a Pod would ask itself.
func (r Resolver) withoutLoopback() Resolver {
	if !r.ServesPods() {
		return r
	}
	r.Nameservers = slices.DeleteFunc(slices.Clone(r.Nameservers), func(server string) bool {
		ip, err := netip.ParseAddr(server)
		return err == nil && ip.IsLoopback()
	})
	return r
}

// ComputeResolver returns the resolver of pod by its dnsPolicy and dnsConfig.
func ComputeResolver(pod *keelsonv1.Pod, cluster ClusterDNS, machine Resolver) (Resolver, []Notice) {
	var notices []Notice
	if !pod.Spec.HostNetwork {
		machine = machine.withoutLoopback()
	}
	r := machine
	switch policy := effectivePolicy(pod); {
	case policy == corev1.DNSNone:
		r = Resolver{}
	case policy == corev1.DNSClusterFirst && len(cluster.Servers) > 0:
		r = Resolver{
			Nameservers: slices.Clone(cluster.Servers),
			Searches:    clusterSearches(pod.Namespace, cluster.Domain, machine.Searches),
			Options:     []string{"ndots:5"},
		}
	case policy == corev1.DNSClusterFirst:
		notices = append(notices, Notice{"MissingClusterDNS", fmt.Sprintf(
			"pod: %q. kubelet does not have ClusterDNS IP configured and cannot create Pod using %q policy. Falling back to %q policy.",
			fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID), corev1.DNSClusterFirst, corev1.DNSDefault)})
	}
	if c := pod.Spec.DNSConfig; c != nil {
		r.Nameservers = unique(append(slices.Clone(r.Nameservers), c.Nameservers...))
		r.Searches = unique(append(slices.Clone(r.Searches), c.Searches...))
		r.Options = setOptions(r.Options, optionTexts(c.Options))
	}
	return fitLimits(r, notices)
}

// effectivePolicy resolves the policies that depend on the network.
func effectivePolicy(pod *keelsonv1.Pod) corev1.DNSPolicy {
	switch pod.Spec.DNSPolicy {
	case corev1.DNSNone, corev1.DNSDefault:
		return pod.Spec.DNSPolicy
	case corev1.DNSClusterFirstWithHostNet:
		return corev1.DNSClusterFirst
	}
	if pod.Spec.HostNetwork {
		return corev1.DNSDefault
	}
	return corev1.DNSClusterFirst
}

func clusterSearches(namespace, domain string, machine []string) []string {
	if domain == "" {
		return machine
	}
	return unique(append([]string{namespace + ".svc." + domain, "svc." + domain, domain}, machine...))
}

func optionTexts(options []corev1.PodDNSConfigOption) []string {
	var texts []string
	for _, o := range options {
		if o.Value != nil && *o.Value != "" {
			texts = append(texts, o.Name+":"+*o.Value)
		} else {
			texts = append(texts, o.Name)
		}
	}
	return texts
}

// setOptions adds options; one of the same name replaces the earlier one in place.
func setOptions(options, more []string) []string {
	options = slices.Clone(options)
	for _, o := range more {
		name, _, _ := strings.Cut(o, ":")
		i := slices.IndexFunc(options, func(have string) bool {
			n, _, _ := strings.Cut(have, ":")
			return n == name
		})
		if i >= 0 {
			options[i] = o
		} else {
			options = append(options, o)
		}
	}
	return options
}

func unique(texts []string) []string {
	var out []string
	for _, t := range texts {
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

func fitLimits(r Resolver, notices []Notice) (Resolver, []Notice) {
	const reason = "DNSConfigForming"
	if len(r.Nameservers) > maxNameservers {
		r.Nameservers = r.Nameservers[:maxNameservers]
		notices = append(notices, Notice{reason, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: " +
			strings.Join(r.Nameservers, " ")})
	}
	var fitting []string
	length := 0
	for _, s := range r.Searches {
		if len(fitting) == maxSearches || length+len(s) > maxSearchChars {
			break
		}
		if len(s) <= validation.DNS1123SubdomainMaxLength {
			fitting = append(fitting, s)
			length += len(s) + 1
		}
	}
	if len(fitting) < len(r.Searches) {
		notices = append(notices, Notice{reason, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: " +
			strings.Join(fitting, " ")})
	}
	r.Searches = fitting
	return r, notices
}

// Render returns the text of a resolv.conf.
func (r Resolver) Render() string {
	var out strings.Builder
	if len(r.Searches) > 0 {
		out.WriteString("search " + strings.Join(r.Searches, " ") + "\n")
	}
	for _, n := range r.Nameservers {
		out.WriteString("nameserver " + n + "\n")
	}
	if len(r.Options) > 0 {
		out.WriteString("options " + strings.Join(r.Options, " ") + "\n")
	}
	return out.String()
}
