package support

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func podTable() Table {
	t := Table{Kind: "Pod", Root: "spec", Type: reflect.TypeFor[corev1.PodSpec](), Entries: map[string]Entry{
		"spec.initContainers":      noted("with restartPolicy Always: sidecars"),
		"spec.ephemeralContainers": noted("added to a Pod that is there, as by kubectl debug"),

		"spec.activeDeadlineSeconds":            supported(),
		"spec.nodeName":                         noted("set at creation, or by binding; fixed from then on"),
		"spec.serviceAccountName":               supported(),
		"spec.serviceAccount":                   noted("old name of serviceAccountName, kept equal to it"),
		"spec.automountServiceAccountToken":     supported(),
		"spec.imagePullSecrets":                 supported(),
		"spec.imagePullSecrets[*].name":         supported(),
		"spec.dnsPolicy":                        supported(),
		"spec.hostPID":                          supported(),
		"spec.hostIPC":                          supported(),
		"spec.shareProcessNamespace":            supported(),
		"spec.hostUsers":                        noted("false where the node's kernel can map user IDs; the Pod waits with an event elsewhere"),
		"spec.subdomain":                        supported(),
		"spec.setHostnameAsFQDN":                supported(),
		"spec.hostnameOverride":                 supported(),
		"spec.affinity":                         supported(),
		"spec.schedulingGates":                  supported(),
		"spec.schedulingGates[*].name":          supported(),
		"spec.schedulingGroup":                  refused("the scheduler places Pods one by one; upstream has it switched off"),
		"spec.evictionResponders":               refused("upstream has it behind an alpha gate"),
		"spec.priorityClassName":                supported(),
		"spec.priority":                         noted("computed from the class"),
		"spec.preemptionPolicy":                 supported(),
		"spec.readinessGates":                   supported(),
		"spec.runtimeClassName":                 noted("nodes know the handler runc"),
		"spec.overhead":                         only("", string(corev1.ResourceCPU), string(corev1.ResourceMemory)),
		"spec.resourceClaims":                   refused("dynamic resources are not allocated"),
		"spec.resources":                        supported(),
		"spec.os.name":                          only("nodes run Linux", string(corev1.Linux)),
		"spec.tolerations[*].tolerationSeconds": supported(),
	}}
	t.with("spec.", supported(),
		"containers", "restartPolicy", "terminationGracePeriodSeconds", "dnsConfig", "nodeSelector", "hostNetwork",
		"hostname", "hostAliases", "schedulerName", "tolerations", "enableServiceLinks", "os", "securityContext")
	withNodeAffinity(t, "spec.affinity.nodeAffinity")
	withPodAffinity(t, "spec.affinity.podAffinity")
	withPodAffinity(t, "spec.affinity.podAntiAffinity")
	withSpread(t, "spec.topologySpreadConstraints")
	t.with("spec.tolerations[*].", supported(), "key", "operator", "value", "effect")
	t.with("spec.hostAliases[*].", supported(), "ip", "hostnames")
	t.with("spec.dnsConfig.", supported(), "nameservers", "searches", "options")
	t.with("spec.dnsConfig.options[*].", supported(), "name", "value")
	withPodSecurity(t)
	t.with("spec.resources.", countedResources(string(corev1.ResourceCPU), string(corev1.ResourceMemory)), "limits", "requests")
	t.with("spec.resources.", refused("dynamic resources are not allocated"), "claims")
	t.with("spec.readinessGates[*].", supported(), "conditionType")
	withContainer(t, "spec.initContainers[*].")
	return withEphemeral(withContainer(withVolumes(t), "spec.containers[*]."))
}

// withEphemeral is the containers' table, with what upstream allows in none of them.
func withEphemeral(t Table) Table {
	const prefix = "spec.ephemeralContainers[*]."
	withContainer(t, prefix)
	t.with(prefix, supported(), "targetContainerName")
	for key := range t.Entries {
		for _, name := range NotInEphemeralContainers() {
			if strings.HasPrefix(key, prefix+name+"[*].") || strings.HasPrefix(key, prefix+name+".") {
				delete(t.Entries, key)
			}
		}
	}
	never := Entry{Level: Refused, Note: "upstream allows it in no ephemeral container", exempt: saidElsewhere}
	return t.with(prefix, never, NotInEphemeralContainers()...)
}

// NotInEphemeralContainers are the fields of a container that an ephemeral one may not
// have. Admission refuses them in upstream's words.
func NotInEphemeralContainers() []string {
	return []string{"ports", "resources", "resizePolicy", "restartPolicy", "restartPolicyRules",
		"livenessProbe", "readinessProbe", "startupProbe", "lifecycle"}
}

func saidElsewhere(reflect.Value) bool { return true }

func withContainer(t Table, prefix string) Table {
	t.with(prefix, supported(),
		"name", "image", "command", "args", "workingDir", "ports", "resources", "terminationMessagePath",
		"terminationMessagePolicy", "imagePullPolicy", "securityContext", "stdin", "stdinOnce", "tty")
	withVolumeMounts(t, prefix)
	withProbes(t, prefix)
	withHooks(t, prefix)
	t.with(prefix, supported(), "restartPolicy", "restartPolicyRules")
	t.with(prefix+"restartPolicyRules[*].", supported(), "exitCodes", "exitCodes.operator", "exitCodes.values")
	t.with(prefix+"restartPolicyRules[*].", only("", string(corev1.ContainerRestartRuleActionRestart), string(corev1.ContainerRestartRuleActionRestartAllContainers)), "action")
	t.with(prefix, supported(), "resizePolicy")
	t.with(prefix+"resizePolicy[*].", supported(), "resourceName", "restartPolicy")

	t.with(prefix+"ports[*].", supported(), "name", "containerPort", "hostPort", "hostIP")
	t.with(prefix+"ports[*].", noted("SCTP where the kernel of the node has it"), "protocol")

	resources := countedResources(string(corev1.ResourceCPU), string(corev1.ResourceMemory), string(corev1.ResourceEphemeralStorage))
	resources.Note, resources.Extended = "and extended resources", true
	t.with(prefix+"resources.", resources, "limits", "requests")
	t.with(prefix+"resources.", refused("dynamic resources are not allocated"), "claims")

	withVariables(t, prefix)
	return withContainerSecurity(t, prefix)
}

// countedResources allows the resources that a node counts.
func countedResources(names ...string) Entry {
	return only("", append(names, corev1.ResourceHugePagesPrefix+"*")...)
}

func withNodeAffinity(t Table, prefix string) {
	const (
		required  = ".requiredDuringSchedulingIgnoredDuringExecution"
		preferred = ".preferredDuringSchedulingIgnoredDuringExecution"
	)
	t.with(prefix, supported(), "", required, required+".nodeSelectorTerms", preferred, preferred+"[*].weight", preferred+"[*].preference")
	for _, term := range []string{required + ".nodeSelectorTerms[*].", preferred + "[*].preference."} {
		for _, list := range []string{"matchExpressions", "matchFields"} {
			t.with(prefix+term+list, supported(), "", "[*].key", "[*].operator", "[*].values")
		}
	}
}

func withPodAffinity(t Table, prefix string) {
	const (
		required  = ".requiredDuringSchedulingIgnoredDuringExecution"
		preferred = ".preferredDuringSchedulingIgnoredDuringExecution"
	)
	t.with(prefix, supported(), "", required, preferred, preferred+"[*].weight", preferred+"[*].podAffinityTerm")
	for _, term := range []string{required + "[*].", preferred + "[*].podAffinityTerm."} {
		t.with(prefix+term, supported(), "topologyKey", "namespaces", "matchLabelKeys", "mismatchLabelKeys")
		withSelector(t, prefix+term+"labelSelector")
		withSelector(t, prefix+term+"namespaceSelector")
	}
}

func withSpread(t Table, prefix string) {
	t.with(prefix, supported(), "", "[*].maxSkew", "[*].topologyKey", "[*].whenUnsatisfiable", "[*].minDomains",
		"[*].nodeAffinityPolicy", "[*].nodeTaintsPolicy", "[*].matchLabelKeys")
	withSelector(t, prefix+"[*].labelSelector")
}

func withSelector(t Table, prefix string) {
	t.with(prefix, supported(), "", ".matchLabels", ".matchExpressions",
		".matchExpressions[*].key", ".matchExpressions[*].operator", ".matchExpressions[*].values")
}

func withProbes(t Table, prefix string) {
	t.with(prefix, supported(), "livenessProbe", "readinessProbe", "startupProbe")
	for _, name := range []string{"livenessProbe.", "readinessProbe.", "startupProbe."} {
		probe := prefix + name
		t.with(probe, supported(), "exec", "httpGet", "tcpSocket", "grpc", "initialDelaySeconds", "timeoutSeconds",
			"periodSeconds", "successThreshold", "failureThreshold", "terminationGracePeriodSeconds")
		withHandlers(t, probe)
		t.with(probe+"tcpSocket.", supported(), "host", "port")
		t.with(probe+"grpc.", supported(), "port", "service")
		t.with(probe+"grpc.", refused("probes speak without encryption; upstream has it switched off"), "mode")
	}
}

func withHooks(t Table, prefix string) {
	hooks := prefix + "lifecycle"
	t.with(hooks, supported(), "", ".postStart", ".preStop")
	t.with(hooks, refused("the image names the signal; upstream has it switched off"), ".stopSignal")
	for _, name := range []string{".postStart.", ".preStop."} {
		t.with(hooks+name, supported(), "exec", "httpGet", "sleep", "sleep.seconds")
		t.with(hooks+name, refused("upstream does not run it either"), "tcpSocket")
		withHandlers(t, hooks+name)
	}
}

// withHandlers are the handlers that probes and hooks have in common.
func withHandlers(t Table, prefix string) {
	t.with(prefix, supported(), "exec.command", "httpGet.path", "httpGet.port", "httpGet.host", "httpGet.scheme", "httpGet.httpHeaders")
	t.with(prefix+"httpGet.httpHeaders[*].", supported(), "name", "value")
	t.with(prefix+"httpGet.", refused("HTTP/2 is spoken with HTTPS; upstream has it switched off otherwise"), "protocol")
}
