package local

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/cluster/internal/imagearchive"
	"github.com/keelson-dev/keelson/cluster/supervisor"
	"github.com/keelson-dev/keelson/config"
	"github.com/keelson-dev/keelson/internal/ranges"
)

const (
	dnsRepository = "keelson.dev/keelson-dns"
	dnsUser       = "65532:65532"
	// dnsOffset is the place of the DNS server's address in the range of Services; the
	// manager gives it to nobody else.
	dnsOffset = 10
	// dnsWait bounds one attempt to see the DNS server become ready.
	dnsWait   = time.Minute
	dnsPeriod = 50 * time.Millisecond
)

// dnsAddress is where Pods ask for names: the tenth address of the first range of
// Services. The range was checked when the cluster was made.
func (s Settings) dnsAddress() netip.Addr {
	services, err := ranges.ParseList(s.ServiceCIDR)
	if err != nil || len(services) == 0 {
		return netip.Addr{}
	}
	address := services[0].Addr()
	for range dnsOffset {
		address = address.Next()
	}
	return address
}

// dnsReplicas are two, so that one may end, where there are nodes to spread them over.
func (s Settings) dnsReplicas() int64 { return int64(min(2, max(1, len(s.dnsHosts())))) }

// dns is the component that brings the cluster's DNS up, or takes it away where it is
// not wanted any more.
func (p plan) dns(probes *probes) supervisor.Component {
	c := supervisor.Component{Name: nameDNS, DependsOn: []string{nameAdmission}}
	if p.settings.NoDNS {
		c.Name, c.Task = "dns-removal", probes.removeDNS
		return c
	}
	in := dnsInstall{image: p.dnsImage, address: p.settings.dnsAddress(), replicas: p.settings.dnsReplicas(), hosts: p.settings.dnsHosts()}
	c.Task = func(ctx context.Context) error {
		in := in
		if in.least = in.replicas; p.settings.several() {
			in.least = p.machine.expected(in.replicas)
			if err := probes.waitForHosts(ctx, in.hosts, int(in.least)); err != nil {
				return err
			}
		}
		return probes.installDNS(ctx, in)
	}
	return c
}

// dnsHosts are the nodes that have the DNS server's image: those of this machine. One that
// joined from another may be of another version.
func (s Settings) dnsHosts() []string {
	if len(s.Nodes) == 0 {
		return []string{s.NodeName}
	}
	var hosts []string
	for _, n := range s.Nodes {
		if !n.Deleting {
			hosts = append(hosts, n.Name)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// followDNS spreads the DNS server over the nodes anew when there are others than before:
// their names are in its Pods, so that a change of them replaces the Pods.
func (p plan) followDNS(ctx context.Context, s Settings, probes *probes, changes chan<- supervisor.Change, spread *[]string) error {
	hosts := s.dnsHosts()
	if s.NoDNS || slices.Equal(hosts, *spread) {
		return nil
	}
	p.settings = s
	err := sendChange(ctx, changes, supervisor.Change{Remove: []string{nameDNS}, Add: []supervisor.Component{p.dns(probes)}})
	if err == nil {
		*spread = hosts
	}
	return err
}

// waitForHosts waits until so many of the hosts are ready, so that the replicas are not all
// on the one that was first. After a while it goes on with those there are.
func (p *probes) waitForHosts(ctx context.Context, hosts []string, count int) error {
	c, err := p.apiClient()
	if err != nil {
		return err
	}
	err = wait.PollUntilContextTimeout(ctx, dnsPeriod, dnsWait, true, func(ctx context.Context) (bool, error) {
		var all keelsonv1.NodeList
		if err := c.List(ctx, &all); err != nil {
			return false, err
		}
		ready := 0
		for i := range all.Items {
			if slices.Contains(hosts, all.Items[i].Name) && nodeReady(&all.Items[i]) {
				ready++
			}
		}
		return ready >= count, nil
	})
	if err != nil && (ctx.Err() != nil || !wait.Interrupted(err)) {
		return fmt.Errorf("wait until %d nodes are ready for the DNS server: %w", count, err)
	}
	return nil
}

// writeDNSImage puts the DNS server's image where nodes look for it, before they start.
func (p plan) writeDNSImage() (string, error) {
	if p.settings.NoDNS {
		return "", imagearchive.Remove(p.layout.imagesDir(), p.programs.DNS)
	}
	return imagearchive.Write(p.layout.imagesDir(), imagearchive.Spec{Repository: dnsRepository, Program: p.programs.DNS, User: dnsUser})
}

// dnsInstall is what the manifests of the DNS server lack.
type dnsInstall struct {
	image    string
	address  netip.Addr
	replicas int64
	// hosts are the nodes that have the image.
	hosts []string
	// least is how many replicas have to be available: fewer than there are where a node
	// is off, whose replica stays bound to it for minutes.
	least int64
}

// installDNS applies the DNS server and waits until it answers. The Corefile is the
// owner's once it is there.
func (p *probes) installDNS(ctx context.Context, in dnsInstall) error {
	c, err := p.apiClient()
	if err != nil {
		return err
	}
	objects, err := config.Objects(config.DNS)
	if err != nil {
		return fmt.Errorf("read manifests %s: %w", config.DNS, err)
	}
	var deployment *unstructured.Unstructured
	for _, object := range objects {
		switch object.GetKind() {
		case "ConfigMap":
			err := c.Create(ctx, object)
			if err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("create ConfigMap %s: %w", object.GetName(), err)
			}
			continue
		case "Deployment":
			deployment = object
			if in.replicas, err = atLeastAsMany(ctx, c, object, in.replicas); err != nil {
				return err
			}
		}
		if err := in.complete(object); err != nil {
			return err
		}
		if err := apply(ctx, c, object); err != nil {
			return err
		}
	}
	return waitAvailable(ctx, c, deployment, in.least)
}

// atLeastAsMany keeps the replicas that somebody asked for since.
func atLeastAsMany(ctx context.Context, c client.Client, deployment *unstructured.Unstructured, replicas int64) (int64, error) {
	have := &unstructured.Unstructured{}
	have.SetGroupVersionKind(deployment.GroupVersionKind())
	if err := c.Get(ctx, client.ObjectKeyFromObject(deployment), have); err != nil {
		if apierrors.IsNotFound(err) {
			return replicas, nil
		}
		return 0, fmt.Errorf("get Deployment %s: %w", deployment.GetName(), err)
	}
	now, _, err := unstructured.NestedInt64(have.Object, "spec", "replicas")
	if err != nil {
		return 0, fmt.Errorf("read Deployment %s: %w", deployment.GetName(), err)
	}
	return max(replicas, now), nil
}

// complete fills in what only the installer knows.
func (in dnsInstall) complete(object *unstructured.Unstructured) error {
	switch object.GetKind() {
	case "Service":
		return unstructured.SetNestedField(object.Object, in.address.String(), "spec", "clusterIP")
	case "Deployment":
		containers, _, err := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
		if err != nil || len(containers) != 1 {
			return fmt.Errorf("manifest of the DNS server has %d containers, not 1: %w", len(containers), err)
		}
		container, ok := containers[0].(map[string]any)
		if !ok {
			return errors.New("manifest of the DNS server has a container that is no object")
		}
		container["image"] = in.image
		hosts := make([]any, len(in.hosts))
		for i, name := range in.hosts {
			hosts[i] = name
		}
		there := map[string]any{"matchExpressions": []any{map[string]any{"key": corev1.LabelHostname, "operator": string(corev1.NodeSelectorOpIn), "values": hosts}}}
		return errors.Join(
			in.spread(object),
			unstructured.SetNestedSlice(object.Object, []any{there}, "spec", "template", "spec", "affinity", "nodeAffinity",
				"requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"),
			unstructured.SetNestedSlice(object.Object, containers, "spec", "template", "spec", "containers"),
			unstructured.SetNestedField(object.Object, in.replicas, "spec", "replicas"))
	}
	return nil
}

// spread says over how many nodes the replicas go at least, so that they do not share one
// while another's Node is not there yet, or was deleted and comes back.
func (in dnsInstall) spread(deployment *unstructured.Unstructured) error {
	path := []string{"spec", "template", "spec", "topologySpreadConstraints"}
	constraints, _, err := unstructured.NestedSlice(deployment.Object, path...)
	if err != nil || len(constraints) != 1 {
		return fmt.Errorf("manifest of the DNS server has %d constraints of its spread, not 1: %w", len(constraints), err)
	}
	constraint, ok := constraints[0].(map[string]any)
	if !ok {
		return errors.New("manifest of the DNS server has a constraint of its spread that is no object")
	}
	constraint["minDomains"] = int64(min(2, max(1, len(in.hosts))))
	return unstructured.SetNestedSlice(deployment.Object, constraints, path...)
}

// waitAvailable waits until the Deployment has rolled out what was applied.
func waitAvailable(ctx context.Context, c client.Client, deployment *unstructured.Unstructured, least int64) error {
	problem := ""
	err := wait.PollUntilContextTimeout(ctx, dnsPeriod, dnsWait, true, func(ctx context.Context) (bool, error) {
		now := &unstructured.Unstructured{}
		now.SetGroupVersionKind(deployment.GroupVersionKind())
		if err := c.Get(ctx, client.ObjectKeyFromObject(deployment), now); err != nil {
			return false, err
		}
		problem = notAvailableBecause(now, least)
		return problem == "", nil
	})
	if err != nil {
		return fmt.Errorf("wait until Deployment %s/%s is available (%s): %w", deployment.GetNamespace(), deployment.GetName(), problem, err)
	}
	return nil
}

// notAvailableBecause is empty when all replicas are of the newest kind, and at least so
// many are available.
func notAvailableBecause(deployment *unstructured.Unstructured, least int64) string {
	number := func(path ...string) int64 {
		n, _, err := unstructured.NestedInt64(deployment.Object, path...)
		if err != nil {
			return -1
		}
		return n
	}
	wanted := number("spec", "replicas")
	least = min(least, wanted)
	switch {
	case number("status", "observedGeneration") < deployment.GetGeneration():
		return "the controller has not seen it yet"
	case number("status", "updatedReplicas") < wanted:
		return fmt.Sprintf("%d of %d replicas are new", number("status", "updatedReplicas"), wanted)
	case number("status", "availableReplicas") < least:
		return fmt.Sprintf("%d of %d replicas are available", number("status", "availableReplicas"), least)
	}
	return ""
}

// removeDNS takes away what an earlier start with --dns has installed.
func (p *probes) removeDNS(ctx context.Context) error {
	c, err := p.apiClient()
	if err != nil {
		return err
	}
	objects, err := config.Objects(config.DNS)
	if err != nil {
		return fmt.Errorf("read manifests %s: %w", config.DNS, err)
	}
	for _, object := range objects {
		if object.GroupVersionKind() == corev1.SchemeGroupVersion.WithKind("ConfigMap") {
			continue // the owner's
		}
		if err := c.Delete(ctx, object, client.PropagationPolicy("Background")); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}
