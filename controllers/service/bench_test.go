package service

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/svcranges"
)

// BenchmarkPlanBeside10000 is the cost of settling one Service in a large cluster.
func BenchmarkPlanBeside10000(b *testing.B) {
	r := testRanges(b, svcranges.DefaultServiceCIDR, svcranges.DefaultNodePortRange)
	var all []keelsonv1.Service
	for i := range 10_000 {
		builder := svc(fmt.Sprint("s", i)).ClusterIP(r.addresses[0].At(300+i).String()).Port("", 80, 80)
		if i < 2000 {
			builder = builder.Type(corev1.ServiceTypeNodePort).NodePort(30100 + int32(i))
		}
		all = append(all, *builder.Obj())
	}
	for name, subject := range map[string]*keelsonv1.Service{
		"that needs nothing":    &all[0],
		"that needs all it can": svc("new").Type(corev1.ServiceTypeNodePort).Port("", 80, 80).Obj(),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if makePlan(subject, computeLedger(all, subject), r).shortage != nil {
					b.Fatal("no number was free")
				}
			}
		})
	}
}
