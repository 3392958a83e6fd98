package model

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// policy is a NetworkPolicy with everything parsed.
type policy struct {
	name            types.NamespacedName
	pods            labels.Selector
	ingress, egress *side
}

// side is what a policy says of one direction.
type side struct{ rules []rule }

// rule allows some peers on some ports.
type rule struct {
	anyone bool
	// pods are the peers that are Pods, nil without one; ranges those that are not.
	pods   *podPeers
	ranges []netip.Prefix
	// ports are empty for all.
	ports []port
}

// port is a range of numbers, or a name.
type port struct {
	protocol    corev1.Protocol
	first, last uint16
	name        string
}

// podPeers are Pods that one rule names. key identifies what they are, so that equal
// ones of several policies share a set.
type podPeers struct {
	key   string
	peers []podPeer
}

type podPeer struct {
	// namespace is that of the policy, for peers without a selector of namespaces.
	namespace  string
	namespaces labels.Selector
	pods       labels.Selector
}

func (p podPeer) matches(pod Pod, namespace labels.Set) bool {
	if p.namespaces == nil {
		if pod.Name.Namespace != p.namespace {
			return false
		}
	} else if namespace == nil || !p.namespaces.Matches(namespace) {
		return false
	}
	return p.pods.Matches(labels.Set(pod.Labels))
}

// compile parses a NetworkPolicy. Admission has refused what cannot be parsed; what is
// stored all the same makes an error that names the field.
func compile(name types.NamespacedName, spec *networkingv1.NetworkPolicySpec) (*policy, error) {
	p := &policy{name: name}
	var err error
	if p.pods, err = metav1.LabelSelectorAsSelector(&spec.PodSelector); err != nil {
		return nil, fmt.Errorf("spec.podSelector: %w", err)
	}
	types := spec.PolicyTypes
	if len(types) == 0 { // as upstream's defaults
		if types = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}; len(spec.Egress) > 0 {
			types = append(types, networkingv1.PolicyTypeEgress)
		}
	}
	if slices.Contains(types, networkingv1.PolicyTypeIngress) {
		p.ingress = &side{}
		for i, in := range spec.Ingress {
			r, err := compileRule(name.Namespace, in.From, in.Ports)
			if err != nil {
				return nil, fmt.Errorf("spec.ingress[%d]: %w", i, err)
			}
			p.ingress.rules = append(p.ingress.rules, r)
		}
	}
	if slices.Contains(types, networkingv1.PolicyTypeEgress) {
		p.egress = &side{}
		for i, out := range spec.Egress {
			r, err := compileRule(name.Namespace, out.To, out.Ports)
			if err != nil {
				return nil, fmt.Errorf("spec.egress[%d]: %w", i, err)
			}
			p.egress.rules = append(p.egress.rules, r)
		}
	}
	return p, nil
}

func compileRule(namespace string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) (rule, error) {
	r := rule{anyone: len(peers) == 0}
	var keys []string
	var pods podPeers
	for _, peer := range peers {
		if peer.IPBlock != nil {
			block, err := subtract(peer.IPBlock.CIDR, peer.IPBlock.Except)
			if err != nil {
				return rule{}, err
			}
			r.ranges = append(r.ranges, block...)
			continue
		}
		pod, err := compilePeer(namespace, peer)
		if err != nil {
			return rule{}, err
		}
		pods.peers = append(pods.peers, pod)
		if pod.namespaces == nil {
			keys = append(keys, fmt.Sprintf("in %s: %s", namespace, pod.pods))
		} else {
			keys = append(keys, fmt.Sprintf("by %s: %s", pod.namespaces, pod.pods))
		}
	}
	if len(pods.peers) > 0 {
		slices.Sort(keys)
		pods.key = name("p", slices.Compact(keys)...)
		r.pods = &pods
	}
	r.ranges = union(r.ranges)
	for _, p := range ports {
		r.ports = append(r.ports, compilePort(p))
	}
	return r, nil
}

func compilePeer(namespace string, peer networkingv1.NetworkPolicyPeer) (p podPeer, err error) {
	p = podPeer{namespace: namespace, pods: labels.Everything()}
	if peer.PodSelector != nil {
		if p.pods, err = metav1.LabelSelectorAsSelector(peer.PodSelector); err != nil {
			return p, fmt.Errorf("podSelector: %w", err)
		}
	}
	if peer.NamespaceSelector != nil {
		if p.namespaces, err = metav1.LabelSelectorAsSelector(peer.NamespaceSelector); err != nil {
			return p, fmt.Errorf("namespaceSelector: %w", err)
		}
	}
	return p, nil
}

func compilePort(p networkingv1.NetworkPolicyPort) port {
	out := port{protocol: corev1.ProtocolTCP}
	if p.Protocol != nil {
		out.protocol = *p.Protocol
	}
	switch {
	case p.Port == nil:
	case p.Port.Type == intstr.String:
		out.name = p.Port.StrVal
	default:
		out.first = uint16(p.Port.IntVal)
		if out.last = out.first; p.EndPort != nil {
			out.last = uint16(*p.EndPort)
		}
	}
	return out
}

// name hashes parts into a name of a chain or set; nftables allows 31 letters to old
// kernels.
func name(kind string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return kind + "-" + hex.EncodeToString(sum[:12])
}
