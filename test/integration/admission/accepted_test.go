package admission

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func expect(t *testing.T, what, want, got string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// testAccepted applies what must work and looks at what is stored.
func testAccepted(t *testing.T) {
	for name, part := range map[string]func(*testing.T, kubectl){
		"numbers as quantities":                     numbersAsQuantities,
		"a Pod applied twice":                       podAppliedTwice,
		"a Pod with a node is held by a finalizer":  podWithNode,
		"images and tolerations of a Pod change":    podChanges,
		"a gated Pod is tightened and let go":       gatedPod,
		"label keys are merged once":                labelKeysMergedOnce,
		"a generated name":                          generatedName,
		"a replication controller":                  replicationController,
		"a Service goes from type to type and back": serviceTypes,
		"a Service applied twice keeps its ports":   servicePortsKept,
		"a headless Service":                        headlessService,
		"the columns of an EndpointSlice":           endpointSliceColumns,
		"Endpoints get their column":                endpointsColumn,
		"a built-in object has the name already":    nameTaken,
		"a Node stays without upstream's taint":     nodeTaint,
		"the account of the dry run was deleted":    accountDeleted,
		"Keelson's own identities are left alone":   ownIdentities,
		"upstream's warnings reach the person":      warnings,
	} {
		t.Run(name, func(t *testing.T) { part(t, newKubectl(t)) })
	}
}

func numbersAsQuantities(t *testing.T, k kubectl) {
	k.create(t, pod("p", "  containers: [{name: c, image: i, resources: {requests: {cpu: 0.5, memory: 1e6}, limits: {cpu: 1}}}]\n"))
	expect(t, "resources", `{"limits":{"cpu":"1"},"requests":{"cpu":"500m","memory":"1M"}}`, k.show(t, "kpo/p", "{.spec.containers[0].resources}"))
}

func podAppliedTwice(t *testing.T, k kubectl) {
	object := pod("p", "  containers: [{name: c, image: i, ports: [{containerPort: 80}], resources: {limits: {cpu: 0.5}}}]\n")
	k.must(t, object, "apply", "-f", "-")
	before := k.show(t, "kpo/p", "{.metadata.generation} {.spec}")
	k.must(t, object, "apply", "-f", "-")
	expect(t, "generation and spec after the second apply", before, k.show(t, "kpo/p", "{.metadata.generation} {.spec}"))
	k.must(t, object, "apply", "--server-side", "--force-conflicts", "-f", "-")
	expect(t, "generation and spec after a server-side apply", before, k.show(t, "kpo/p", "{.metadata.generation} {.spec}"))
}

func podWithNode(t *testing.T, k kubectl) {
	k.create(t, pod("bound", "  nodeName: n1\n  containers: [{name: c, image: i}]\n"))
	k.create(t, pod("free", "  containers: [{name: c, image: i}]\n"))
	expect(t, "finalizers", `["keelson.dev/pod"]`, k.show(t, "kpo/bound", "{.metadata.finalizers}"))
	expect(t, "finalizers of a Pod without a node", ``, k.show(t, "kpo/free", "{.metadata.finalizers}"))
	// A person takes the finalizer away to force the deletion.
	k.must(t, "", "delete", "kpo/bound", "--wait=false")
	k.must(t, "", "patch", "kpo/bound", "--type=merge", "-p", `{"metadata": {"finalizers": null}}`)
	expect(t, "Pods that are left", "pod.core.keelson.dev/free\n", k.must(t, "", "get", "kpo", "-o", "name"))
}

func podChanges(t *testing.T, k kubectl) {
	k.create(t, pod("p", "  tolerations: [{key: a, operator: Exists}]\n  containers: [{name: c, image: i:1}]\n"))
	k.must(t, "", "patch", "kpo/p", "--type=json", "-p", `[{"op": "replace", "path": "/spec/containers/0/image", "value": "i:2"},
		{"op": "add", "path": "/spec/tolerations/-", "value": {"key": "b", "operator": "Exists"}}]`)
	expect(t, "image and tolerations", "i:2 a node.kubernetes.io/not-ready node.kubernetes.io/unreachable b", k.show(t, "kpo/p", "{.spec.containers[0].image} {.spec.tolerations[*].key}"))
	k.refused(t, "", []string{`The Pod "p" is invalid: spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds`},
		"patch", "kpo/p", "--type=json", "-p", `[{"op": "remove", "path": "/spec/tolerations/0"}]`)
}

func gatedPod(t *testing.T, k kubectl) {
	k.create(t, pod("gated", "  schedulingGates: [{name: example.com/a}, {name: example.com/b}]\n  containers: [{name: c, image: i}]\n"))
	k.must(t, "", "patch", "kpo/gated", "--type=json", "-p", `[{"op": "remove", "path": "/spec/schedulingGates/0"}, {"op": "add", "path": "/spec/nodeSelector", "value": {"disk": "ssd"}}]`)
	expect(t, "gates and selector", `[{"name":"example.com/b"}] {"disk":"ssd"}`, k.show(t, "kpo/gated", "{.spec.schedulingGates} {.spec.nodeSelector}"))
	k.refused(t, "", []string{`The Pod "gated" is invalid: spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'example.com/c'`},
		"patch", "kpo/gated", "--type=json", "-p", `[{"op": "add", "path": "/spec/schedulingGates/-", "value": {"name": "example.com/c"}}]`)
	k.must(t, "", "patch", "kpo/gated", "--type=json", "-p", `[{"op": "remove", "path": "/spec/schedulingGates"}]`)
	expect(t, "gates", ``, k.show(t, "kpo/gated", "{.spec.schedulingGates}"))
}

func labelKeysMergedOnce(t *testing.T, k kubectl) {
	k.create(t, `{apiVersion: core.keelson.dev/v1, kind: Pod, metadata: {name: keys, labels: {app: a, hash: x}}, spec: {containers: [{name: c, image: i}],
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: a}}, matchLabelKeys: [hash]}],
  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {matchLabels: {app: a}}, matchLabelKeys: [hash]}]}}}}`)
	const merged = `[{"key":"hash","operator":"In","values":["x"]}]`
	expressions := "{.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions}"
	expect(t, "the selector", merged, k.show(t, "kpo/keys", expressions))
	k.must(t, "", "patch", "kpo/keys", "--type=json", "-p", `[{"op": "replace", "path": "/spec/containers/0/image", "value": "i:2"}]`)
	expect(t, "image and selector", "i:2 "+merged+` ["hash"] ["hash"]`, k.show(t, "kpo/keys", "{.spec.containers[0].image} "+expressions+
		" {.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys} {.spec.topologySpreadConstraints[0].matchLabelKeys}"))
}

func generatedName(t *testing.T, k kubectl) {
	object := "apiVersion: core.keelson.dev/v1\nkind: Pod\nmetadata: {generateName: gen-}\nspec: {%scontainers: [{name: c, image: i}]}\n"
	k.create(t, fmt.Sprintf(object, ""))
	k.refused(t, fmt.Sprintf(object, "resourceClaims: [{name: g, resourceClaimName: r}], "), []string{`The Pod "gen-" is invalid: spec.resourceClaims: Forbidden: not supported by Keelson yet: dynamic resources are not allocated`}, "create", "-f", "-")
	expect(t, "how many there are and what they are made from", "gen-", k.show(t, "kpo", "{.items[*].metadata.generateName}"))
}

func replicationController(t *testing.T, k kubectl) {
	k.create(t, manifest("ReplicationController", "rc", "spec:\n  template:\n    metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, image: i, resources: {limits: {cpu: 0.5}}}]}\n"))
	expect(t, "defaults", `1 {"a":"b"} {"a":"b"} Always {"limits":{"cpu":"500m"}}`,
		k.show(t, "krc/rc", "{.spec.replicas} {.spec.selector} {.metadata.labels} {.spec.template.spec.restartPolicy} {.spec.template.spec.containers[0].resources}"))
	k.must(t, "", "scale", "krc/rc", "--replicas=3")
	expect(t, "replicas", "3", k.show(t, "krc/rc", "{.spec.replicas}"))
	k.refused(t, "", []string{`The ReplicationController "rc" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0`},
		"patch", "krc/rc", "--type=merge", "-p", `{"spec": {"replicas": -1}}`)
}

func serviceTypes(t *testing.T, k kubectl) {
	k.create(t, service("s", "  type: NodePort\n  clusterIP: 10.254.8.1\n  ports: [{port: 80, nodePort: 31001}]\n"))
	k.must(t, "", "patch", "ksvc/s", "--type=merge", "-p", `{"spec": {"type": "ClusterIP"}}`)
	expect(t, "as ClusterIP", `10.254.8.1 [{"port":80,"protocol":"TCP","targetPort":80}] `, k.show(t, "ksvc/s", "{.spec.clusterIP} {.spec.ports} {.spec.externalTrafficPolicy}"))
	k.must(t, "", "patch", "ksvc/s", "--type=merge", "-p", `{"spec": {"type": "NodePort"}}`)
	expect(t, "as NodePort", "10.254.8.1 Cluster", k.show(t, "ksvc/s", "{.spec.clusterIP} {.spec.externalTrafficPolicy}"))
	k.must(t, "", "patch", "ksvc/s", "--type=merge", "-p", `{"spec": {"type": "LoadBalancer", "loadBalancerClass": "a.example/b", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31009}}`)
	expect(t, "as LoadBalancer", "10.254.8.1 Local 31009 true", k.show(t, "ksvc/s", "{.spec.clusterIP} {.spec.externalTrafficPolicy} {.spec.healthCheckNodePort} {.spec.allocateLoadBalancerNodePorts}"))
	k.must(t, "", "patch", "ksvc/s", "--type=merge", "-p", `{"spec": {"type": "ExternalName", "externalName": "a.example"}}`)
	expect(t, "as ExternalName", `a.example {"externalName":"a.example","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"None","type":"ExternalName"}`,
		k.show(t, "ksvc/s", "{.spec.externalName} {.spec}"))
	k.must(t, "", "patch", "ksvc/s", "--type=merge", "-p", `{"spec": {"type": "ClusterIP", "externalName": null}}`)
	expect(t, "as ClusterIP again", ` ["IPv4"] SingleStack Cluster`, k.show(t, "ksvc/s", "{.spec.clusterIP} {.spec.ipFamilies} {.spec.ipFamilyPolicy} {.spec.internalTrafficPolicy}"))
}

func endpointSliceColumns(t *testing.T, k kubectl) {
	const slice = "apiVersion: discovery.keelson.dev/v1\nkind: EndpointSlice\nmetadata: {name: e}\naddressType: IPv4\n"
	k.create(t, slice+"endpoints: [{addresses: [10.9.9.1]}, {addresses: [10.9.9.2]}]\nports: [{port: 80}]\n")
	expect(t, "columns and defaults", `10.9.9.1,10.9.9.2 80 [{"name":"","port":80,"protocol":"TCP"}]`,
		k.show(t, "keps/e", "{.status.summary.endpoints} {.status.summary.ports} {.ports}"))
	k.refused(t, "", []string{`The EndpointSlice "e" is invalid:`,
		`* endpoints[0].addresses: Invalid value: "10.9.9.1": must be an IPv6 address`, `* endpoints[1].addresses: Invalid value: "10.9.9.2": must be an IPv6 address`,
		`* addressType: Invalid value: "IPv6": field is immutable`},
		"patch", "keps/e", "--type=merge", "-p", `{"addressType": "IPv6"}`)
	k.must(t, "", "patch", "keps/e", "--type=merge", "-p", `{"endpoints": []}`)
	expect(t, "column of an empty slice", `<unset>`, k.show(t, "keps/e", "{.status.summary.endpoints}"))
}

func servicePortsKept(t *testing.T, k kubectl) {
	object := service("s", "  type: NodePort\n  selector: {a: b}\n  ports: [{name: web, port: 80, targetPort: http}, {name: dns, port: 53, protocol: UDP}]\n")
	k.must(t, object, "apply", "-f", "-")
	// What the service controller does.
	k.must(t, "", "patch", "ksvc/s", "--type=json", "-p", `[{"op": "add", "path": "/spec/clusterIP", "value": "10.254.8.2"}, {"op": "add", "path": "/spec/clusterIPs", "value": ["10.254.8.2"]},
		{"op": "add", "path": "/spec/ports/0/nodePort", "value": 31002}, {"op": "add", "path": "/spec/ports/1/nodePort", "value": 31003}]`)
	before := k.show(t, "ksvc/s", "{.metadata.generation} {.spec}")
	k.must(t, object, "apply", "-f", "-")
	expect(t, "generation and spec after the second apply", before, k.show(t, "ksvc/s", "{.metadata.generation} {.spec}"))
	k.must(t, object, "replace", "-f", "-")
	expect(t, "generation and spec after a replacement without addresses", before, k.show(t, "ksvc/s", "{.metadata.generation} {.spec}"))
}

func headlessService(t *testing.T, k kubectl) {
	k.create(t, service("s", "  clusterIP: None\n"))
	expect(t, "addresses and families", `["None"] ["IPv4","IPv6"] RequireDualStack`, k.show(t, "ksvc/s", "{.spec.clusterIPs} {.spec.ipFamilies} {.spec.ipFamilyPolicy}"))
}

func endpointsColumn(t *testing.T, k kubectl) {
	k.create(t, manifest("Endpoints", "e", "subsets: [{addresses: [{ip: 10.9.9.1}, {ip: 10.9.9.2}], ports: [{port: 80}]}]\n"))
	expect(t, "column and protocol", "10.9.9.1:80,10.9.9.2:80 TCP", k.show(t, "kep/e", "{.status.summary.endpoints} {.subsets[0].ports[0].protocol}"))
}

func nameTaken(t *testing.T, k kubectl) {
	system := kubectl{config: k.config, namespace: "keelson-system"}
	system.create(t, "apiVersion: v1\nkind: Service\nmetadata: {name: taken}\nspec: {ports: [{port: 1}]}\n")
	k.create(t, service("taken", "  ports: [{port: 80}]\n"))
	expect(t, "protocol", "TCP", k.show(t, "ksvc/taken", "{.spec.ports[0].protocol}"))
	k.refused(t, service("taken", "  ports: [{port: 80, protocol: HTTP}]\n"),
		[]string{`The Service "taken" is invalid: spec.ports[0].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"`}, "create", "-f", "-")
}

func accountDeleted(t *testing.T, k kubectl) {
	object := pod("%s", "  containers: [{name: c, image: i}]\n")
	k.create(t, fmt.Sprintf(object, "before"))
	k.must(t, "", "delete", "serviceaccount", "keelson-dry-run", "--namespace=keelson-system")
	k.create(t, fmt.Sprintf(object, "after"))
	k.must(t, "", "get", "serviceaccount", "keelson-dry-run", "--namespace=keelson-system")
}

func ownIdentities(t *testing.T, k kubectl) {
	// An object that admission would complete, and one that it would refuse.
	for name, as := range map[string][]string{
		"manager":  {"--as=keelson:manager"},
		"account":  {"--as=system:serviceaccount:keelson-system:keelson-manager", "--as-group=system:masters"},
		"agent":    {"--as=keelson:node:n1", "--as-group=keelson:nodes", "--as-group=system:masters"},
		"outsider": {"--as=keelson:other", "--as-group=system:masters"},
	} {
		object := pod(name, "  containers: [{name: c, image: i, securityContext: {procMount: Unmasked}}]\n")
		stdout, stderr, code := k.run(t, object, append(as, "create", "-f", "-")...)
		if accepted := code == 0; accepted != (name != "outsider") {
			t.Errorf("as %v: exit %d: %s%s", as, code, stdout, stderr)
		}
	}
	expect(t, "restart policies that admission wrote", "", k.show(t, "kpo", "{.items[*].spec.restartPolicy}"))
}

func nodeTaint(t *testing.T, k kubectl) {
	k.create(t, manifest("Node", "untainted", ""))
	k.must(t, "", "patch", "kno/untainted", "--type=merge", "-p", `{"spec": {"unschedulable": true, "taints": [{"key": "a", "effect": "NoSchedule"}]}}`)
	expect(t, "taints", `[{"effect":"NoSchedule","key":"a"}] true`, k.show(t, "kno/untainted", "{.spec.taints} {.spec.unschedulable}"))
}

func warnings(t *testing.T, k kubectl) {
	_, stderr, code := k.run(t, pod("p", "  nodeSelector: {beta.kubernetes.io/os: linux}\n  containers: [{name: c, image: i}]\n"), "create", "-f", "-")
	expect(t, "warning", "Warning: spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead\n", stderr)
	if code != 0 {
		t.Errorf("exit code %d, want 0: a warning refuses nothing", code)
	}
	_, stderr, _ = k.run(t, manifest("Endpoints", "e", "subsets: []\n"), "create", "-f", "-")
	expect(t, "advice about another built-in kind", "", stderr)
}
