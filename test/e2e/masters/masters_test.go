// Package masters tests a cluster whose control plane runs on three machines as static
// Pods, made of the files of examples/high-availability as its README says, on a throw-away
// machine: each master has a member of etcd, an API server, a manager and a gateway; a
// balancer is in front of them.
package masters

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/test/env/machine"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard()) // nothing here says anything by it
	os.Exit(machine.Main(m.Run))
}

// components are the static Pods of each master, called after the programs in them.
var components = []string{"etcd", "kube-apiserver", "keelson-manager", "keelson-gateway"}

// web is a ReplicationController with a Pod on each node, written for a stock cluster.
const web = `{apiVersion: v1, kind: ReplicationController, metadata: {name: web, namespace: default}, spec: {replicas: 3, template: {metadata: {labels: {app: web}}, spec: {
  terminationGracePeriodSeconds: 0, automountServiceAccountToken: false,
  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}]}},
  containers: [{name: c, image: "` + busybox + `", command: [sleep, "7654321"]}]}}}}`

// once is a Job that runs anywhere but on the node of %q.
const once = `{apiVersion: batch/v1, kind: Job, metadata: {name: once, namespace: default}, spec: {backoffLimit: 0, template: {spec: {
  restartPolicy: Never, automountServiceAccountToken: false,
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [%q]}]}]}}},
  containers: [{name: c, image: "` + busybox + `", command: [sh, -c, "exit 0"]}]}}}}`

// TestAMasterIsLostAndComesBack takes the power from the master whose manager leads.
func TestAMasterIsLostAndComesBack(t *testing.T) {
	s := &story{lab: newLab(t), seen: map[string]string{}}
	t.Cleanup(func() {
		if t.Failed() {
			s.dumpLogs()
		}
	})
	s.up()
	s.applyPlain(web)
	s.eventually("each node has a Pod", func() error { return s.running(names...) })
	s.eventually("the Service kubernetes leads to all masters", func() error { return s.kubernetesLeadsTo(names...) })
	before := s.containers()

	lost := s.leader()
	left := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == lost })
	s.switchOff(lost)
	t.Logf("%s, whose manager leads, has lost its power", lost)
	s.eventually("the API takes a write through the balancer", func() error { return s.tryPlain(fmt.Sprintf(once, lost)) })
	var victim *keelsonv1.Pod
	s.eventually("a Pod is deleted", func() (err error) {
		if victim == nil {
			victim, err = s.podOn(left[0])
		}
		if err != nil {
			return err
		}
		return client.IgnoreNotFound(s.api.Delete(t.Context(), victim))
	})
	s.eventually("another manager has the Lease", func() error {
		if holder, err := s.holder(); err != nil || !slices.Contains(left, holder) {
			return errors.Join(fmt.Errorf("%q has it", holder), err)
		}
		return nil
	})
	s.eventually("the Pod has a successor that runs", func() error {
		if pod, err := s.podOn(left[0]); err != nil || pod == nil || pod.UID == victim.UID {
			return errors.Join(errors.New("there is none yet"), err)
		}
		return s.running(left...)
	})
	s.eventually("the Job is done", s.jobIsDone)
	s.eventually("the Service kubernetes leads to the masters that are left", func() error { return s.kubernetesLeadsTo(left...) })

	s.switchOn(lost)
	s.eventually("its static Pods run again", func() error { return s.restarted(lost, before) })
	s.eventually("the Service kubernetes leads to all masters again", func() error { return s.kubernetesLeadsTo(names...) })
	s.eventually("its Pod runs again", func() error { return s.running(names...) })
	s.nothingWasDoneTwice(lost, before)
}

// story is the lab with a cluster.
type story struct {
	*lab
	api client.Client
	// seen are all Pods of the namespace default that there ever were, by UID, with what
	// owns them.
	seen map[string]string
	mu   sync.Mutex
}

// up follows the README of the example.
func (s *story) up() {
	s.t.Helper()
	s.prepare()
	gateway := s.options.Gateway()
	for port := range map[string]bool{"6443": true, "6444": true} {
		var servers []string
		for _, name := range names {
			servers = append(servers, s.nodes[name].Address.String()+":"+port)
		}
		startBalancer(s.t, gateway.String()+":"+port, servers...)
	}
	for _, name := range names {
		s.switchOn(name)
	}
	s.eventually("an API server answers", func() error { return s.ask("get", "--raw", "/readyz") })
	manifests := s.run("", filepath.Join(s.root, "bin/keelson"), "manifests", "--webhook-url=https://localhost:9443")
	s.eventually("Keelson is installed", func() error {
		out, err := s.kubectl("admin", manifests, "apply", "--server-side", "-f", "-")
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	config, err := clientcmd.BuildConfigFromFlags("", s.file("out/admin.kubeconfig"))
	must(s.t, err)
	s.eventually("the kinds are known", func() (err error) {
		s.api, err = newClient(config)
		return err
	})
	s.eventually("all static Pods run", s.controlPlaneIsReady)
	s.recordPods(config)
}

func newClient(config *rest.Config) (client.Client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, batchv1.AddToScheme, discoveryv1.AddToScheme, coordinationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err == nil {
		err = c.List(context.Background(), &keelsonv1.PodList{})
	}
	return c, err
}

// recordPods notes every Pod of the namespace default: a watch that ends goes on where it
// was, so none is missed.
func (s *story) recordPods(config *rest.Config) {
	s.t.Helper()
	c, err := dynamic.NewForConfig(config)
	must(s.t, err)
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(c, 0, corev1.NamespaceDefault, nil)
	informer := factory.ForResource(keelsonv1.GroupVersion.WithResource("pods")).Informer()
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(obj any) {
		pod, owner := obj.(client.Object), ""
		for _, o := range pod.GetOwnerReferences() {
			owner = o.Kind + " " + o.Name
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen[string(pod.GetUID())] = owner
	}})
	must(s.t, err)
	stop := make(chan struct{})
	factory.Start(stop)
	s.t.Cleanup(func() {
		close(stop)
		factory.Shutdown()
	})
	if !cache.WaitForCacheSync(s.t.Context().Done(), informer.HasSynced) {
		s.t.Fatal("Pods cannot be listed")
	}
}

func (s *story) ask(args ...string) error {
	out, err := s.kubectl("admin", "", args...)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// tryPlain applies a manifest of the plain Kubernetes API, through a gateway.
func (s *story) tryPlain(manifest string) error {
	out, err := s.kubectl("plain", manifest, "apply", "-f", "-")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (s *story) applyPlain(manifest string) {
	s.t.Helper()
	s.eventually("the gateway takes a manifest", func() error { return s.tryPlain(manifest) })
}

// pods are those of the namespace with such labels.
func (s *story) pods(namespace string, labels client.MatchingLabels) ([]keelsonv1.Pod, error) {
	var list keelsonv1.PodList
	err := s.api.List(s.t.Context(), &list, client.InNamespace(namespace), labels)
	return list.Items, err
}

// controlPlaneIsReady wants one Pod of each component on each node, ready, and no other.
func (s *story) controlPlaneIsReady() error {
	pods, err := s.pods("kube-system", nil)
	if err != nil {
		return err
	}
	want, got := map[string]bool{}, map[string]bool{}
	for _, name := range names {
		for _, component := range components {
			want[component+"-"+name] = true
		}
	}
	for i := range pods {
		got[pods[i].Name] = ready(&pods[i])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return errors.New(diff)
	}
	return nil
}

func ready(pod *keelsonv1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// running wants one Pod of web, ready, on each of these nodes.
func (s *story) running(nodes ...string) error {
	pods, err := s.pods("default", client.MatchingLabels{"app": "web"})
	if err != nil {
		return err
	}
	on := map[string]int{}
	for i := range pods {
		if ready(&pods[i]) {
			on[pods[i].Spec.NodeName]++
		}
	}
	for _, node := range nodes {
		if on[node] != 1 {
			return fmt.Errorf("ready Pods on nodes: %v", on)
		}
	}
	return nil
}

// podOn is the Pod of web on a node, or nil.
func (s *story) podOn(node string) (found *keelsonv1.Pod, err error) {
	pods, err := s.pods("default", client.MatchingLabels{"app": "web"})
	for i := range pods {
		if pods[i].Spec.NodeName == node && pods[i].DeletionTimestamp == nil {
			found = &pods[i]
		}
	}
	return found, err
}

// holder is the node whose manager leads.
func (s *story) holder() (string, error) {
	lease := &coordinationv1.Lease{}
	err := s.api.Get(s.t.Context(), client.ObjectKey{Namespace: keelsonv1.SystemNamespace, Name: "keelson-manager"}, lease)
	if err != nil || lease.Spec.HolderIdentity == nil {
		return "", fmt.Errorf("read the Lease: %w", err)
	}
	return *lease.Spec.HolderIdentity, nil
}

func (s *story) leader() (name string) {
	s.t.Helper()
	s.eventually("a manager leads", func() (err error) {
		if name, err = s.holder(); err == nil && !slices.Contains(names, name) {
			err = fmt.Errorf("%q leads", name)
		}
		return err
	})
	return name
}

// kubernetesLeadsTo wants the gateways of these masters in the slice that Pods' traffic
// follows.
func (s *story) kubernetesLeadsTo(masters ...string) error {
	slice := &discoveryv1.EndpointSlice{}
	if err := s.api.Get(s.t.Context(), client.ObjectKey{Namespace: "default", Name: "kubernetes"}, slice); err != nil {
		return err
	}
	want, got := []netip.Addr{}, []netip.Addr{}
	for _, name := range masters {
		want = append(want, s.nodes[name].Address)
	}
	for _, e := range slice.Endpoints {
		got = append(got, netip.MustParseAddr(e.Addresses[0]))
	}
	slices.SortFunc(want, netip.Addr.Compare)
	slices.SortFunc(got, netip.Addr.Compare)
	if !slices.Equal(want, got) {
		return fmt.Errorf("it leads to %v, want %v", got, want)
	}
	return nil
}

func (s *story) jobIsDone() error {
	job := &batchv1.Job{}
	err := s.api.Get(s.t.Context(), client.ObjectKey{Namespace: "default", Name: "once"}, job)
	if err == nil && job.Status.CompletionTime == nil {
		err = fmt.Errorf("status %+v", job.Status)
	}
	return err
}

// containers are the objects of the static Pods, by name: their UIDs, and the containers
// that run in them.
func (s *story) containers() map[string][2]string {
	s.t.Helper()
	found := map[string][2]string{}
	s.eventually("static Pods are listed", func() error {
		pods, err := s.pods("kube-system", nil)
		for i := range pods {
			found[pods[i].Name] = [2]string{string(pods[i].UID), pods[i].Status.ContainerStatuses[0].ContainerID}
		}
		return err
	})
	return found
}

// restarted wants all static Pods ready, those of the master with other containers than
// before.
func (s *story) restarted(master string, before map[string][2]string) error {
	pods, err := s.pods("kube-system", nil)
	if err != nil {
		return err
	}
	for i := range pods {
		if name := pods[i].Name; pods[i].Spec.NodeName == master && pods[i].Status.ContainerStatuses[0].ContainerID == before[name][1] {
			return fmt.Errorf("%s has the container that it had before", name)
		}
	}
	return s.controlPlaneIsReady()
}

// nothingWasDoneTwice looks at what is left of two managers, and of two boots of a master.
func (s *story) nothingWasDoneTwice(lost string, before map[string][2]string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	owners := map[string]int{}
	for owner := range maps.Values(s.seen) {
		owners[owner]++
	}
	// One Pod was deleted, so there were four of web.
	if diff := cmp.Diff(map[string]int{"ReplicationController web": 4, "Job once": 1}, owners); diff != "" {
		s.t.Errorf("Pods that there ever were (-want +got):\n%s", diff)
	}
	after := s.containers()
	for _, component := range components {
		name := component + "-" + lost
		after[name] = [2]string{after[name][0], before[name][1]} // it was started anew
	}
	if diff := cmp.Diff(before, after); diff != "" {
		s.t.Errorf("static Pods and their containers (-before +after):\n%s", diff)
	}
	for _, program := range components {
		if got := s.processes(program); got != len(names) {
			s.t.Errorf("%d processes of %s, want one on each of %d machines", got, program, len(names))
		}
	}
	lease := &coordinationv1.Lease{}
	must(s.t, s.api.Get(s.t.Context(), client.ObjectKey{Namespace: keelsonv1.SystemNamespace, Name: "keelson-manager"}, lease))
	if lease.Spec.LeaseTransitions == nil || *lease.Spec.LeaseTransitions != 1 {
		s.t.Errorf("the Lease of managers went over %v times, want once", lease.Spec.LeaseTransitions)
	}
}

// processes counts those of a program on all machines.
func (s *story) processes(program string) (count int) {
	s.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	must(s.t, err)
	for _, file := range files {
		text, err := os.ReadFile(file) // it may have ended
		if err == nil && strings.TrimSpace(string(text)) == program {
			count++
		}
	}
	return count
}
