package proxy

import (
	"fmt"
	"net/netip"
	"os/exec"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// manyServices returns n Services with one TCP port and the given number of endpoints
// each.
func manyServices(n, endpoints int) []model.Service {
	services := make([]model.Service, n)
	for i := range services {
		services[i] = numberedService(i, endpoints)
	}
	return services
}

func numberedService(i, endpoints int) model.Service {
	key := types.NamespacedName{Namespace: "bench", Name: fmt.Sprintf("service-%05d", i)}
	port := model.ServicePort{
		Name: model.PortName{Service: key, Port: "http"}, Protocol: model.TCP, Port: 80,
		ClusterIP: netip.AddrFrom4([4]byte{10, 254, byte(i >> 8), byte(i)}),
	}
	for e := range endpoints {
		address := netip.AddrFrom4([4]byte{10, 244, byte((i*10 + e) >> 8), byte(i*10 + e)})
		port.Endpoints = append(port.Endpoints, readyEndpoint(netip.AddrPortFrom(address, uint16(8000+e))))
	}
	return model.Service{Name: key, Ports: []model.ServicePort{port}}
}

func benchSizes(b *testing.B, run func(b *testing.B, variant string, services int)) {
	for _, variant := range []string{"iptables-nft", "iptables-legacy"} {
		if _, err := exec.LookPath(variant); err != nil {
			b.Log(variant + " is not installed")
			continue
		}
		for _, services := range []int{1000, 5000} {
			b.Run(fmt.Sprintf("%s/services=%d", variant, services), func(b *testing.B) { run(b, variant, services) })
		}
	}
}

// BenchmarkFullSync renders and writes every Service to a kernel without rules.
func BenchmarkFullSync(b *testing.B) {
	benchSizes(b, func(b *testing.B, variant string, count int) {
		services := manyServices(count, 10)
		for b.Loop() {
			b.StopTimer()
			n := newTestNode(b, variant)
			b.StartTimer()
			n.sync(services...)
			b.ReportMetric(float64(n.syncer.driver.Rules(iptables.NAT)), "rules")
		}
	})
}

// BenchmarkOneEndpoint changes one endpoint of one Service among many.
func BenchmarkOneEndpoint(b *testing.B) {
	benchSizes(b, func(b *testing.B, variant string, count int) {
		n := newTestNode(b, variant)
		n.sync(manyServices(count, 10)...)
		with, without := numberedService(count/2, 10), numberedService(count/2, 9)
		for i := 0; b.Loop(); i++ {
			if i%2 == 0 {
				n.sync(without)
			} else {
				n.sync(with)
			}
		}
	})
}

// BenchmarkOneService adds and removes a Service among many.
func BenchmarkOneService(b *testing.B) {
	benchSizes(b, func(b *testing.B, variant string, count int) {
		n := newTestNode(b, variant)
		n.sync(manyServices(count, 10)...)
		added := numberedService(count, 10)
		for i := 0; b.Loop(); i++ {
			if i%2 == 0 {
				n.sync(added)
			} else {
				n.sync(model.Service{Name: added.Name})
			}
		}
	})
}

// BenchmarkCheck compares the kernel with the wanted rules when nothing differs.
func BenchmarkCheck(b *testing.B) {
	benchSizes(b, func(b *testing.B, variant string, count int) {
		n := newTestNode(b, variant)
		n.sync(manyServices(count, 10)...)
		for b.Loop() {
			n.check()
		}
	})
}

// BenchmarkRender renders every Service without writing.
func BenchmarkRender(b *testing.B) {
	for _, count := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("services=%d", count), func(b *testing.B) {
			services := manyServices(count, 10)
			for b.Loop() {
				n := newFakeNode(b)
				n.syncer.takeIn(syncInput{facts: renderFacts(model.IPv4), services: services})
			}
		})
	}
}
