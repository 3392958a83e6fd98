package policy

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	networkingv1 "github.com/keelson-dev/keelson/apis/networking/v1"
	"github.com/keelson-dev/keelson/nodeagent/policy/model"
)

// Strip keeps of what is watched only what is read: of a Pod its labels, addresses and
// named ports.
func Strip(object any) (any, error) {
	switch o := object.(type) {
	case *keelsonv1.Pod:
		return stripPod(o), nil
	case *corev1.Namespace:
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion, Labels: o.Labels}}, nil
	case *networkingv1.NetworkPolicy:
		return &networkingv1.NetworkPolicy{ObjectMeta: slimMeta(&o.ObjectMeta), Spec: o.Spec}, nil
	}
	return object, nil // a tombstone
}

func slimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Labels: m.Labels}
}

func stripPod(pod *keelsonv1.Pod) *keelsonv1.Pod {
	slim := &keelsonv1.Pod{ObjectMeta: slimMeta(&pod.ObjectMeta)}
	slim.Spec.NodeName, slim.Spec.HostNetwork = pod.Spec.NodeName, pod.Spec.HostNetwork
	slim.Status.Phase, slim.Status.PodIPs = pod.Status.Phase, pod.Status.PodIPs
	slim.Spec.InitContainers, slim.Spec.Containers = stripPorts(pod.Spec.InitContainers, true), stripPorts(pod.Spec.Containers, false)
	return slim
}

// stripPorts keeps named ports, of init containers those of sidecars.
func stripPorts(containers []corev1.Container, init bool) []corev1.Container {
	var kept []corev1.Container
	for i := range containers {
		c := &containers[i]
		if init && (c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways) {
			continue
		}
		var ports []corev1.ContainerPort
		for _, p := range c.Ports {
			if p.Name != "" {
				ports = append(ports, corev1.ContainerPort{Name: p.Name, Protocol: p.Protocol, ContainerPort: p.ContainerPort})
			}
		}
		if len(ports) > 0 {
			kept = append(kept, corev1.Container{RestartPolicy: c.RestartPolicy, Ports: ports})
		}
	}
	return kept
}

// ToPod reads what the model needs of a Pod; false for one that policies do not see.
func ToPod(full *keelsonv1.Pod) (model.Pod, bool) {
	slim := stripPod(full)
	pod := model.Pod{
		Name: types.NamespacedName{Namespace: slim.Namespace, Name: slim.Name}, UID: slim.UID,
		Node: slim.Spec.NodeName, Labels: slim.Labels,
	}
	for _, containers := range [][]corev1.Container{slim.Spec.InitContainers, slim.Spec.Containers} {
		for i := range containers {
			for _, p := range containers[i].Ports {
				protocol := p.Protocol
				if protocol == "" {
					protocol = corev1.ProtocolTCP
				}
				pod.Ports = append(pod.Ports, model.NamedPort{Name: p.Name, Protocol: protocol, Number: uint16(p.ContainerPort)})
			}
		}
	}
	for _, shown := range slim.Status.PodIPs {
		if ip, err := netip.ParseAddr(shown.IP); err == nil {
			pod.IPs = append(pod.IPs, ip)
		}
	}
	ended := slim.Status.Phase == corev1.PodSucceeded || slim.Status.Phase == corev1.PodFailed
	return pod, !ended && !slim.Spec.HostNetwork
}

// followPolicies starts the watch of policies.
func (e *Enforcer) followPolicies(ctx context.Context, loops *sync.WaitGroup) error {
	log := klog.FromContext(ctx)
	synced, err := e.follow(ctx, loops, map[client.Object]toolscache.ResourceEventHandlerFuncs{
		&networkingv1.NetworkPolicy{}: {
			AddFunc:    func(object any) { e.setPolicy(log, object) },
			UpdateFunc: func(_, object any) { e.setPolicy(log, object) },
			DeleteFunc: func(object any) {
				if name, err := toolscache.DeletionHandlingObjectToName(object); err == nil {
					e.change(func() bool {
						e.tracker.RemovePolicy(types.NamespacedName{Namespace: name.Namespace, Name: name.Name})
						return true
					})
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("watching NetworkPolicies: %w", err)
	}
	if synced {
		e.change(func() bool { e.policiesKnown = true; return true })
	}
	return nil
}

func (e *Enforcer) setPolicy(log klog.Logger, object any) {
	p, ok := object.(*networkingv1.NetworkPolicy)
	if !ok {
		return
	}
	e.change(func() bool {
		err := e.tracker.SetPolicy(types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, &p.Spec)
		if err != nil {
			log.Error(err, "Cannot read a network policy")
		}
		return err == nil
	})
}

// followPeers starts the watch of what policies name.
func (e *Enforcer) followPeers(ctx context.Context, loops *sync.WaitGroup) error {
	setPod := func(object any) {
		full, ok := object.(*keelsonv1.Pod)
		if !ok {
			return
		}
		if pod, seen := ToPod(full); seen {
			e.setPod(pod)
		} else {
			e.removePod(pod.Name)
		}
	}
	setNamespace := func(object any) {
		if ns, ok := object.(*corev1.Namespace); ok {
			labels := ns.Labels
			if labels == nil {
				labels = map[string]string{}
			}
			e.change(func() bool { return e.tracker.SetNamespace(ns.Name, labels) })
		}
	}
	synced, err := e.follow(ctx, loops, map[client.Object]toolscache.ResourceEventHandlerFuncs{
		&keelsonv1.Pod{}: {
			AddFunc: setPod, UpdateFunc: func(_, object any) { setPod(object) },
			DeleteFunc: func(object any) {
				if name, err := toolscache.DeletionHandlingObjectToName(object); err == nil {
					e.removePod(types.NamespacedName{Namespace: name.Namespace, Name: name.Name})
				}
			},
		},
		&corev1.Namespace{}: {
			AddFunc: setNamespace, UpdateFunc: func(_, object any) { setNamespace(object) },
			DeleteFunc: func(object any) {
				if name, err := toolscache.DeletionHandlingObjectToName(object); err == nil {
					e.change(func() bool { return e.tracker.SetNamespace(name.Name, nil) })
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("watching Pods and namespaces for NetworkPolicies: %w", err)
	}
	if synced {
		e.change(e.peersListed)
	}
	return nil
}

// peersListed notes that all Pods and namespaces are known. Pods that have lost their
// address here, and that nobody shows any more, need no memory.
func (e *Enforcer) peersListed() bool {
	e.peersKnown = true
	for uid, here := range e.local {
		if here.gone && e.pods[here.pod.Name].UID != uid {
			delete(e.local, uid)
		}
	}
	return true
}

// forgetPeers keeps of Pods those that have an address of this node.
func (e *Enforcer) forgetPeers() {
	e.change(func() bool {
		e.pods = map[types.NamespacedName]model.Pod{}
		e.tracker.ForgetPeers()
		for _, here := range e.local {
			if !here.gone {
				e.tracker.SetPod(here.pod)
			}
		}
		return true
	})
}

// follow starts a cache of its own with these handlers and returns when they have seen
// everything; false when ctx ended before.
func (e *Enforcer) follow(ctx context.Context, loops *sync.WaitGroup, handlers map[client.Object]toolscache.ResourceEventHandlerFuncs) (bool, error) {
	watches, err := e.options.NewCache()
	if err != nil {
		return false, err
	}
	var synced []toolscache.InformerSynced
	for object, handler := range handlers {
		informer, err := watches.GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return false, err
		}
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return false, err
		}
		synced = append(synced, registration.HasSynced)
	}
	loops.Go(func() {
		if err := watches.Start(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot watch for network policies")
		}
	})
	return toolscache.WaitForCacheSync(ctx.Done(), synced...), nil
}
