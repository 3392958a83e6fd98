package admission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAdmission shares one webhook between its parts; each part has a namespace of
// its own.
func TestAdmission(t *testing.T) {
	startWebhook(t)
	t.Run("BadInput", testBadInput)
	t.Run("BadChange", testBadChange)
	t.Run("Accepted", testAccepted)
	t.Run("Jobs", testJobs)
	t.Run("Selectors", testSelectors)
	t.Run("TemplateGeneration", testTemplateGeneration)
	t.Run("Samples", testSamples)
	t.Run("Hooks", testHooks)
}

const onePod = `
spec:
  containers:
  - name: c
    image: i:1
`

func pod(name, spec string) string { return manifest("Pod", name, "spec:\n"+spec) }

func service(name, spec string) string { return manifest("Service", name, "spec:\n"+spec) }

const (
	badRequest  = `Error from server (BadRequest): error when creating "STDIN": `
	denied      = `admission webhook "admission.keelson.dev" denied the request: `
	noSubdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)

// refused runs kubectl, which must fail, and compares what a person reads.
func (k kubectl) refused(t *testing.T, object string, want []string, args ...string) {
	t.Helper()
	stdout, stderr, code := k.run(t, object, args...)
	if code == 0 {
		t.Fatalf("accepted: %s", stdout)
	}
	var got []string
	for line := range strings.Lines(stderr) {
		got = append(got, strings.TrimSpace(line))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kubectl said (-want +got):\n%s", diff)
	}
}

func testBadInput(t *testing.T) {
	k := newKubectl(t)
	k.must(t, service("taken", "  type: NodePort\n  clusterIP: 10.254.7.7\n  ports: [{port: 80, nodePort: 30007}]\n"), "create", "-f", "-")
	for name, tc := range map[string]struct {
		object string
		// want are the lines that a person reads.
		want []string
	}{
		"all errors of a bad Pod come at once, and no name is one of them": {
			"apiVersion: core.keelson.dev/v1\nkind: Pod\nspec:\n  restartPolicy: Maybe\n  volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]\n  containers:\n  - name: c\n    image: i\n",
			[]string{
				`The Pod "" is invalid:`,
				`* metadata.name: Required value: name or generateName is required`,
				`* spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"`,
				`* spec.volumes[0].persistentVolumeClaim: Forbidden: not supported by Keelson yet: claims of storage are not bound yet`,
			}},
		"a field that does not exist": {
			pod("a", "  containers: [{name: c, image: i, entrypoint: [x]}]\n"),
			[]string{badRequest + `Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.containers[0].entrypoint"`}},
		"a kind that does not exist": {
			manifest("Podd", "a", onePod),
			[]string{`error: resource mapping not found for name: "a" namespace: "" from "STDIN": no matches for kind "Podd" in version "core.keelson.dev/v1"`, `ensure CRDs are installed first`}},
		"text where a number belongs": {
			pod("a", "  containers: [{name: c, image: i, ports: [{containerPort: http}]}]\n"),
			[]string{badRequest + denied + `Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32`}},
		"a number where text belongs": {
			pod("a", "  containers: [{name: 5, image: i}]\n"),
			[]string{badRequest + denied + `Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string`}},
		"a map where a list belongs": {
			pod("a", "  containers: {name: c}\n"),
			[]string{badRequest + `Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.containers.name"`}},
		"a fraction in a field that the dry run does not see": {
			pod("a", "  priority: 1.5\n  containers: [{name: c, image: i}]\n"),
			[]string{badRequest + denied + `Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32`}},
		"a port out of range": {
			pod("a", "  containers: [{name: c, image: i, ports: [{containerPort: 70000}]}]\n"),
			[]string{`The Pod "a" is invalid: spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive`}},
		"no containers, a bad node and a bad account": {
			pod("a", "  serviceAccountName: A_b\n  nodeName: Q_q\n"),
			[]string{
				`The Pod "a" is invalid:`,
				`* spec.containers: Required value`,
				`* spec.nodeName: Invalid value: "Q_q": ` + noSubdomain,
				`* spec.serviceAccountName: Invalid value: "A_b": ` + noSubdomain,
			}},
		"a name that is no DNS name": {
			pod("A_b", "  containers: [{name: c, image: i}]\n"),
			[]string{`The Pod "A_b" is invalid: metadata.name: Invalid value: "A_b": ` + noSubdomain}},
		"a selector that does not match the template": {
			manifest("ReplicationController", "a", "spec:\n  selector: {a: c}\n  template:\n    metadata: {labels: {a: b}}\n    spec: {resourceClaims: [{name: g, resourceClaimName: r}], containers: [{name: c, image: i}]}\n"),
			[]string{
				`The ReplicationController "a" is invalid:`,
				"* spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
				`* spec.template.spec.resourceClaims: Forbidden: not supported by Keelson yet: dynamic resources are not allocated`,
			}},
		"a cluster address outside the range": {
			service("a", "  clusterIP: 10.1.2.3\n  ports: [{port: 80}]\n"),
			[]string{`The Service "a" is invalid: spec.clusterIPs: Invalid value: ["10.1.2.3"]: failed to allocate IP 10.1.2.3: the provided IP (10.1.2.3) is not in the valid range. The range of valid IPs is 10.254.0.0/16`}},
		"a cluster address that is taken": {
			service("a", "  clusterIP: 10.254.7.7\n  ports: [{port: 80}]\n"),
			[]string{`The Service "a" is invalid: spec.clusterIPs: Invalid value: ["10.254.7.7"]: failed to allocate IP 10.254.7.7: provided IP is already allocated`}},
		"the address of the kubernetes Service": {
			service("a", "  clusterIP: 10.254.0.1\n  ports: [{port: 80}]\n"),
			[]string{`The Service "a" is invalid: spec.clusterIPs: Invalid value: ["10.254.0.1"]: failed to allocate IP 10.254.0.1: provided IP is already allocated`}},
		"a cluster address that is none": {
			service("a", "  clusterIP: nine\n  ports: [{port: 80}]\n"),
			[]string{`The Service "a" is invalid: spec.clusterIPs[0]: Invalid value: "nine": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`}},
		"node ports out of range, taken and twice the same": {
			service("a", "  type: NodePort\n  ports: [{name: a, port: 1, nodePort: 80}, {name: b, port: 2, nodePort: 30007}, {name: c, port: 3, nodePort: 30008}, {name: d, port: 4, nodePort: 30008}, {name: e, port: 5, nodePort: 70000}]\n"),
			[]string{
				`The Service "a" is invalid:`,
				`* spec.ports[3].nodePort: Duplicate value: 30008`,
				`* spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767`,
				`* spec.ports[1].nodePort: Invalid value: 30007: provided port is already allocated`,
				`* spec.ports[4].nodePort: Invalid value: 70000: provided port is not in the valid range. The range of valid ports is 30000-32767`,
			}},
		"a node port without the type for it": {
			service("a", "  ports: [{port: 80, nodePort: 30001}]\n"),
			[]string{"The Service \"a\" is invalid: spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"}},
		"a port for health checks that nobody asks": {
			service("a", "  type: LoadBalancer\n  healthCheckNodePort: 31000\n  ports: [{port: 80}]\n"),
			[]string{"The Service \"a\" is invalid: spec.healthCheckNodePort: Invalid value: 31000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"}},
		"a port for health checks that is taken, or out of range": {
			service("a", "  type: LoadBalancer\n  externalTrafficPolicy: Local\n  healthCheckNodePort: 30007\n  ports: [{port: 80}]\n"),
			[]string{`The Service "a" is invalid: spec.healthCheckNodePort: Invalid value: 30007: provided port is already allocated`}},
		"an alias for what is no name": {
			service("a", "  type: ExternalName\n  externalName: A_b.example\n"),
			[]string{`The Service "a" is invalid: spec.externalName: Invalid value: "A_b.example": ` + noSubdomain}},
		"an alias with an address": {
			service("a", "  type: ExternalName\n  externalName: a.example\n  clusterIP: 10.254.9.9\n"),
			[]string{"The Service \"a\" is invalid: spec.clusterIPs: Forbidden: may not be set for ExternalName services"}},
		"a second family where there is one": {
			service("a", "  ipFamilyPolicy: RequireDualStack\n  ports: [{port: 80}]\n"),
			[]string{`The Service "a" is invalid: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services`}},
		"two ports of one name": {
			service("a", "  ports: [{name: a, port: 80}, {name: a, port: 81}]\n"),
			[]string{`The Service "a" is invalid: spec.ports[1].name: Duplicate value: "a"`}},
		"a slice without what it must have": {
			"apiVersion: discovery.keelson.dev/v1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv4\nendpoints: [{addresses: [x]}, {addresses: []}]\nports: [{port: 80}, {name: a, protocol: HTTP}]\n",
			[]string{
				`The EndpointSlice "a" is invalid:`,
				`* ports[1].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"`,
				`* endpoints[0].addresses[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`,
				`* endpoints[1].addresses: Required value`,
			}},
		"a Service port out of range": {
			service("a", "  ports: [{port: 80, targetPort: 0}, {port: 0}]\n"),
			[]string{
				`The Service "a" is invalid:`,
				`* spec.ports[0].name: Required value`,
				`* spec.ports[1].name: Required value`,
				`* spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive`,
				`* spec.ports[1].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive`,
			}},
		"endpoints on loopback": {
			manifest("Endpoints", "a", "subsets: [{addresses: [{ip: 127.0.0.1}], ports: [{port: 80, protocol: SCTP}]}]\n"),
			[]string{`The Endpoints "a" is invalid: subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)`}},
		"a priority class that the host does not have either": {
			pod("a", "  priorityClassName: high\n  containers: [{name: c, image: i}]\n"),
			[]string{`Error from server (Forbidden): error when creating "STDIN": ` + denied + `pods "a" is forbidden: no PriorityClass with name high was found`}},
	} {
		t.Run(name, func(t *testing.T) {
			k.refused(t, tc.object, tc.want, "create", "-f", "-")
		})
	}
	if left := k.must(t, "", "get", "kpo,krc,kep", "-o", "name"); left != "" {
		t.Errorf("refused objects are stored: %s", left)
	}
}

// create stores an object and takes it for granted.
func (k kubectl) create(t *testing.T, object string) {
	t.Helper()
	k.must(t, object, "create", "-f", "-")
}

// show prints fields of an object.
func (k kubectl) show(t *testing.T, resource, jsonpath string) string {
	t.Helper()
	return k.must(t, "", "get", resource, "-o", "jsonpath="+jsonpath)
}

func testBadChange(t *testing.T) {
	k := newKubectl(t)
	k.create(t, pod("p", "  hostname: h\n  containers: [{name: c, image: i:1, env: [{name: A, value: b}]}]\n"))
	k.create(t, pod("debugged", "  containers: [{name: c, image: i:1}]\n"))
	k.must(t, "", "patch", "kpo/debugged", "--type=merge", "-p", `{"spec": {"ephemeralContainers": [{"name": "d", "image": "debug:1", "stdin": true, "tty": true, "targetContainerName": "c"}]}}`)
	expect(t, "the ephemeral container", "IfNotPresent File c true", k.show(t, "kpo/debugged",
		"{.spec.ephemeralContainers[0].imagePullPolicy} {.spec.ephemeralContainers[0].terminationMessagePolicy} {.spec.ephemeralContainers[0].targetContainerName} {.spec.ephemeralContainers[0].tty}"))
	k.create(t, service("s", "  clusterIP: 10.254.9.9\n  ports: [{port: 80}]\n"))
	k.create(t, service("headless", "  clusterIP: None\n  ports: [{port: 80}]\n"))
	k.create(t, manifest("Node", "bad-change", "spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24], providerID: x}\n"))
	const fixed = "Forbidden: may not change after creation: only the images of containers, their cpu and memory, a shorter active deadline, added tolerations, added ephemeral containers, removed scheduling gates, what a gated Pod asks of its node and a negative grace period may change; delete the Pod and create it again"
	for name, tc := range map[string]struct {
		resource, patch string
		want            []string
	}{
		"fixed fields of a Pod, each by its name": {
			"kpo/p", `{"spec": {"hostname": "other", "nodeName": "n", "containers": [{"name": "c", "image": "i:2", "env": [{"name": "A", "value": "c"}]}]}}`,
			[]string{`The Pod "p" is invalid:`, "* spec.containers[0].env[0].value: " + fixed, "* spec.hostname: " + fixed, "* spec.nodeName: " + fixed}},
		"a change of a version that is gone is a conflict, whatever it changes": {
			"kpo/p", `{"metadata": {"resourceVersion": "1"}, "spec": {"hostname": "other"}}`,
			[]string{`Error from server (Conflict): Operation cannot be fulfilled on pods.core.keelson.dev "p": the object has been modified; please apply your changes to the latest version and try again`}},
		"one more container": {
			"kpo/p", `{"spec": {"containers": [{"name": "c", "image": "i:1", "env": [{"name": "A", "value": "b"}]}, {"name": "d", "image": "i:1"}]}}`,
			[]string{`The Pod "p" is invalid: spec.containers: ` + fixed}},
		"an empty image": {
			"kpo/p", `{"spec": {"containers": [{"name": "c", "image": "", "env": [{"name": "A", "value": "b"}]}]}}`,
			[]string{`The Pod "p" is invalid: spec.containers[0].image: Required value`}},
		"an ephemeral container without an image, with ports and a target that is not there": {
			"kpo/p", `{"spec": {"ephemeralContainers": [{"name": "d", "ports": [{"containerPort": 80}], "targetContainerName": "x"}]}}`,
			[]string{`The Pod "p" is invalid:`, "* spec.ephemeralContainers[0].image: Required value", `* spec.ephemeralContainers[0].targetContainerName: Not found: "x"`, "* spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"}},
		"an ephemeral container with the name of another": {
			"kpo/p", `{"spec": {"ephemeralContainers": [{"name": "c", "image": "d"}]}}`,
			[]string{`The Pod "p" is invalid: spec.ephemeralContainers[0].name: Duplicate value: "c"`}},
		"no ephemeral container any more": {
			"kpo/debugged", `{"spec": {"ephemeralContainers": null}}`,
			[]string{`The Pod "debugged" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers "d" may not be removed`, ""}},
		"a cluster address": {
			"ksvc/s", `{"spec": {"clusterIP": "10.254.9.8", "clusterIPs": ["10.254.9.8"]}}`,
			[]string{`The Service "s" is invalid: spec.clusterIPs[0]: Invalid value: ["10.254.9.8"]: may not change once set`}},
		"a cluster address, by the one field of two": {
			"ksvc/s", `{"spec": {"clusterIP": "10.254.9.8"}}`,
			[]string{`The Service "s" is invalid: spec.clusterIPs[0]: Invalid value: ["10.254.9.8"]: may not change once set`}},
		"a headless Service gets no address": {
			"ksvc/headless", `{"spec": {"clusterIP": "10.254.9.7", "clusterIPs": ["10.254.9.7"]}}`,
			[]string{`The Service "headless" is invalid: spec.clusterIPs[0]: Invalid value: ["10.254.9.7"]: may not change once set`}},
		"what a Node was given": {
			"kno/bad-change", `{"spec": {"podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24"], "providerID": "y"}}`,
			[]string{`The Node "bad-change" is invalid:`, `* spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid`, `* spec.providerID: Forbidden: may not change once set`}},
	} {
		t.Run(name, func(t *testing.T) {
			k.refused(t, "", tc.want, "patch", tc.resource, "--type=merge", "-p", tc.patch)
		})
	}
}
