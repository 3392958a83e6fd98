package support

// Notes of what stays refused.
const (
	noWindows = "nodes run Linux"
)

// withPodSecurity adds the Pod's own security context.
func withPodSecurity(t Table) Table {
	const prefix = "spec.securityContext."
	t.with(prefix, supported(),
		"runAsUser", "runAsGroup", "runAsNonRoot", "supplementalGroups", "supplementalGroupsPolicy", "fsGroup",
		"fsGroupChangePolicy")
	t.with(prefix, noted("the safe ones, and those that the node allows by --allowed-unsafe-sysctls"), "sysctls")
	t.with(prefix+"sysctls[*].", supported(), "name", "value")
	withLabels(t, prefix)
	t.with(prefix, noted("without effect on a machine without SELinux"), "seLinuxChangePolicy")
	t.with(prefix, refused(noWindows), "windowsOptions")
	return withProfiles(t, prefix)
}

// withContainerSecurity adds the security context of the containers at prefix.
func withContainerSecurity(t Table, prefix string) Table {
	prefix += "securityContext."
	t.with(prefix, supported(), "capabilities", "capabilities.add", "capabilities.drop",
		"runAsUser", "runAsGroup", "runAsNonRoot", "readOnlyRootFilesystem", "allowPrivilegeEscalation")
	t.with(prefix, noted("where the node allows it, see --allow-privileged"), "privileged")
	t.with(prefix, noted("Unmasked with hostUsers: false"), "procMount")
	withLabels(t, prefix)
	t.with(prefix, refused(noWindows), "windowsOptions")
	return withProfiles(t, prefix)
}

// withLabels adds the labels of SELinux.
func withLabels(t Table, prefix string) {
	t.with(prefix, noted("without effect on a machine without SELinux"), "seLinuxOptions")
	t.with(prefix+"seLinuxOptions.", supported(), "user", "role", "type", "level")
}

func withProfiles(t Table, prefix string) Table {
	t.with(prefix, supported(), "seccompProfile", "seccompProfile.type")
	t.with(prefix, noted("a file in the folder seccomp of the node's root folder"), "seccompProfile.localhostProfile")
	t.with(prefix, supported(), "appArmorProfile")
	t.with(prefix, noted("a node without AppArmor refuses the Pod unless it is Unconfined"), "appArmorProfile.type")
	return t.with(prefix, noted("a profile that is loaded on the node"), "appArmorProfile.localhostProfile")
}

// withVariables adds what variables of the containers at prefix come from.
func withVariables(t Table, prefix string) Table {
	t.with(prefix, supported(), "env", "envFrom")
	t.with(prefix+"env[*].", supported(), "name", "valueFrom")
	t.with(prefix+"env[*].", noted("with $(NAME) references"), "value")
	from := prefix + "env[*].valueFrom."
	t.with(from, supported(), "fieldRef", "fieldRef.apiVersion", "fieldRef.fieldPath",
		"resourceFieldRef", "resourceFieldRef.containerName", "resourceFieldRef.resource", "resourceFieldRef.divisor",
		"configMapKeyRef", "secretKeyRef")
	t.with(from+"configMapKeyRef.", supported(), "name", "key", "optional")
	t.with(from+"secretKeyRef.", supported(), "name", "key", "optional")
	t.with(from, supported(), "fileKeyRef")
	t.with(from+"fileKeyRef.", supported(), "volumeName", "path", "key", "optional")
	t.with(prefix+"envFrom[*].", supported(), "prefix", "configMapRef", "secretRef")
	t.with(prefix+"envFrom[*].configMapRef.", supported(), "name", "optional")
	return t.with(prefix+"envFrom[*].secretRef.", supported(), "name", "optional")
}
