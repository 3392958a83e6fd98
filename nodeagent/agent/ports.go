package agent

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// portTable tells the proxy which ports of the machine belong to which Pod.
type portTable struct {
	proxy serviceProxy

	mu sync.Mutex
	// pods are those with host ports; ips the addresses that Pods hold.
	pods map[types.UID]*keelsonv1.Pod
	ips  map[types.UID][]netip.Addr
	// ready is set when all Pods of the node are known; nothing is told before.
	ready bool
	told  []model.HostPort
}

func newPortTable(p serviceProxy) *portTable {
	return &portTable{proxy: p, pods: map[types.UID]*keelsonv1.Pod{}, ips: map[types.UID][]netip.Addr{}}
}

// setIPs takes note of a Pod's addresses, one of each family at most.
func (t *portTable) setIPs(id runtime.PodIdentity, ips []netip.Addr) {
	t.change(func() {
		if len(ips) > 0 {
			t.ips[id.UID] = ips
		} else {
			delete(t.ips, id.UID)
		}
	})
}

func (t *portTable) setPod(pod *keelsonv1.Pod) {
	t.change(func() {
		if len(hostPorts(pod)) == 0 || pod.Spec.HostNetwork || terminal(pod) {
			delete(t.pods, pod.UID)
			return
		}
		_, known := t.pods[pod.UID]
		t.pods[pod.UID] = pod
		if known {
			return // setIPs has the truth
		}
		if len(t.ips[pod.UID]) > 0 {
			return
		}
		for _, shown := range pod.Status.PodIPs { // an earlier agent attached it
			if ip, err := netip.ParseAddr(shown.IP); err == nil {
				t.ips[pod.UID] = append(t.ips[pod.UID], ip)
			}
		}
	})
}

func (t *portTable) forget(uid types.UID) {
	t.change(func() {
		delete(t.pods, uid)
		delete(t.ips, uid)
	})
}

// publish tells the proxy for the first time: all Pods are known.
func (t *portTable) publish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ready = true
	t.told = computeHostPorts(t.pods, t.ips)
	if t.proxy != nil {
		t.proxy.SetHostPorts(t.told)
	}
}

func (t *portTable) change(apply func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	apply()
	if !t.ready || t.proxy == nil {
		return
	}
	if ports := computeHostPorts(t.pods, t.ips); !slices.Equal(ports, t.told) {
		t.told = ports
		t.proxy.SetHostPorts(ports)
	}
}

// computeHostPorts lists the ports of all Pods that have an address, in a fixed order.
func computeHostPorts(pods map[types.UID]*keelsonv1.Pod, ips map[types.UID][]netip.Addr) []model.HostPort {
	var uids []types.UID
	for uid := range pods {
		if len(ips[uid]) > 0 {
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	var ports []model.HostPort
	for _, uid := range uids {
		pod := pods[uid]
		for _, c := range lasting(pod) {
			for _, p := range c.Ports {
				if p.HostPort == 0 {
					continue
				}
				hostIP, _ := netip.ParseAddr(p.HostIP) // zero: every address
				for _, ip := range ips[uid] {
					if hostIP.IsValid() && hostIP.Is4() != ip.Is4() {
						continue // nothing translates one family into the other
					}
					ports = append(ports, model.HostPort{
						Pod: pod.Namespace + "/" + pod.Name, Protocol: model.Protocol(strings.ToLower(string(cmp.Or(p.Protocol, corev1.ProtocolTCP)))),
						HostIP: hostIP, HostPort: uint16(p.HostPort),
						Target: netip.AddrPortFrom(ip, uint16(p.ContainerPort)),
					})
				}
			}
		}
	}
	return ports
}
