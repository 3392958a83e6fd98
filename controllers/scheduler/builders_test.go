package scheduler

import (
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// nodeMaker builds a Node in one line.
type nodeMaker struct{ keelsonv1.Node }

func makeNode(name string) *nodeMaker {
	n := &nodeMaker{}
	n.Name = name
	return n.room("4", "8Gi", "110")
}

func (n *nodeMaker) room(cpu, memory, pods string) *nodeMaker {
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse(cpu),
		corev1.ResourceMemory: resource.MustParse(memory),
		corev1.ResourcePods:   resource.MustParse(pods),
	}
	return n
}

func (n *nodeMaker) taint(key string, effect corev1.TaintEffect) *nodeMaker {
	n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect})
	return n
}

func (n *nodeMaker) label(key, value string) *nodeMaker {
	n.Labels = map[string]string{key: value}
	return n
}

func (n *nodeMaker) cordon() *nodeMaker { n.Spec.Unschedulable = true; return n }

func (n *nodeMaker) obj() *keelsonv1.Node { return n.DeepCopy() }

// podMaker builds a Pod in one line.
type podMaker struct{ keelsonv1.Pod }

func makePod(name string) *podMaker {
	p := &podMaker{}
	p.Namespace, p.Name, p.UID = "ns", name, types.UID("uid-"+name)
	p.Spec.Containers = []corev1.Container{{Name: "main"}}
	return p
}

func (p *podMaker) requires(term corev1.NodeSelectorTerm) *podMaker {
	p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}}}}
	return p
}

func (p *podMaker) asks(cpu, memory string) *podMaker {
	list := corev1.ResourceList{}
	if cpu != "" {
		list[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		list[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	p.Spec.Containers[0].Resources.Requests = list
	return p
}

func (p *podMaker) hostPort(port int32, protocol corev1.Protocol, ip string) *podMaker {
	main := &p.Spec.Containers[0]
	main.Ports = append(main.Ports, corev1.ContainerPort{ContainerPort: port, HostPort: port, Protocol: protocol, HostIP: ip})
	return p
}

func (p *podMaker) tolerates(t corev1.Toleration) *podMaker {
	p.Spec.Tolerations = append(p.Spec.Tolerations, t)
	return p
}

func (p *podMaker) selects(key, value string) *podMaker {
	p.Spec.NodeSelector = map[string]string{key: value}
	return p
}

func (p *podMaker) on(node string) *podMaker { p.Spec.NodeName = node; return p }

func (p *podMaker) priority(value int32) *podMaker { p.Spec.Priority = &value; return p }

func (p *podMaker) deleting() *podMaker {
	p.DeletionTimestamp = new(metav1.Now())
	return p
}

func (p *podMaker) phase(phase corev1.PodPhase) *podMaker { p.Status.Phase = phase; return p }

func (p *podMaker) obj() *keelsonv1.Pod { return p.DeepCopy() }

func (p *podMaker) info() *PodInfo { return NewPodInfo(p.obj()) }

// cluster is a cache with Nodes and bound Pods.
func cluster(nodes []*keelsonv1.Node, pods ...*PodInfo) *nodeCache {
	c := newNodeCache()
	for _, node := range nodes {
		c.setNode(node)
	}
	for _, pod := range pods {
		c.setPod(pod)
	}
	return c
}

func newTestPlanner(seed uint64) *planner {
	return &planner{filters: filters(), scores: scores(), rand: rand.New(rand.NewPCG(seed, seed))}
}
