package staticpods

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilsysctl "k8s.io/component-helpers/node/util/sysctl"
)

// Upstream's form of a sysctl's name. Without it a name such as net.//.kernel.x would be
// another file of /proc/sys than the one that its beginning says.
const (
	sysctlForm      = `^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`
	sysctlMaxLength = 253
)

// ValidateSecurity checks what a Pod says about its rights, and the names and numbers by
// which it could reach what is not its own on the node, in upstream's words. The API server
// refuses such Pods; a node looks again at all of them, because Pods of manifests never pass
// admission and others pass none while its webhook is away. It asks for no defaults.
func ValidateSecurity(spec *corev1.PodSpec) field.ErrorList {
	s := &security{spec: spec, hostUsers: spec.HostUsers == nil || *spec.HostUsers}
	s.namespaces()
	s.podContext(specPath.Child("securityContext"))
	for i := range spec.Volumes {
		s.name(specPath.Child("volumes").Index(i).Child("name"), spec.Volumes[i].Name)
	}
	for i := range spec.InitContainers { // they follow each other: ports may come again
		at := specPath.Child("initContainers")
		s.container(&spec.InitContainers[i], at.Index(i))
		s.hostPorts(spec.InitContainers[i:i+1], at, i)
	}
	for i := range spec.Containers {
		s.container(&spec.Containers[i], specPath.Child("containers").Index(i))
	}
	s.hostPorts(spec.Containers, specPath.Child("containers"), 0)
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		s.container(&c, specPath.Child("ephemeralContainers").Index(i))
	}
	return s.errs
}

// security gathers the errors of one Pod.
type security struct {
	spec      *corev1.PodSpec
	hostUsers bool
	errs      field.ErrorList
}

func (s *security) add(errs ...*field.Error) { s.errs = append(s.errs, errs...) }

func (s *security) invalid(at *field.Path, value any, problems ...string) {
	for _, problem := range problems {
		s.add(field.Invalid(at, value, problem))
	}
}

// namespaces checks which namespaces of the machine go together.
func (s *security) namespaces() {
	if share := s.spec.ShareProcessNamespace; share != nil && *share && s.spec.HostPID {
		s.invalid(specPath.Child("shareProcessNamespace"), *share, "ShareProcessNamespace and HostPID cannot both be enabled")
	}
	if s.hostUsers {
		return
	}
	for _, shared := range []struct {
		name string
		set  bool
	}{{"hostNetwork", s.spec.HostNetwork}, {"HostPID", s.spec.HostPID}, {"HostIPC", s.spec.HostIPC}} {
		if shared.set {
			s.add(field.Forbidden(specPath.Child(shared.name), "when `hostUsers` is false"))
		}
	}
}

func (s *security) podContext(at *field.Path) {
	c := s.spec.SecurityContext
	if c == nil {
		return
	}
	s.ids(at, c.RunAsUser, c.RunAsGroup)
	if c.FSGroup != nil {
		s.invalid(at.Child("fsGroup"), *c.FSGroup, validation.IsValidGroupID(*c.FSGroup)...)
	}
	for i, gid := range c.SupplementalGroups {
		s.invalid(at.Child("supplementalGroups").Index(i), gid, validation.IsValidGroupID(gid)...)
	}
	s.sysctls(c.Sysctls, at.Child("sysctls"))
	s.profiles(c.SeccompProfile, c.AppArmorProfile, at)
	if p := c.FSGroupChangePolicy; p != nil {
		s.add(oneOf(at.Child("fsGroupChangePolicy"), *p, corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	}
	if p := c.SupplementalGroupsPolicy; p != nil {
		s.add(oneOf(at.Child("supplementalGroupsPolicy"), *p, corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	}
}

func (s *security) ids(at *field.Path, user, group *int64) {
	if user != nil {
		s.invalid(at.Child("runAsUser"), *user, validation.IsValidUserID(*user)...)
	}
	if group != nil {
		s.invalid(at.Child("runAsGroup"), *group, validation.IsValidGroupID(*group)...)
	}
}

// sysctls refuses names that would be the machine's.
func (s *security) sysctls(list []corev1.Sysctl, at *field.Path) {
	if len(list) == 0 {
		return
	}
	form := regexp.MustCompile(sysctlForm)
	seen := sets.New[string]()
	for i := range list {
		name, at := list[i].Name, at.Index(i).Child("name")
		switch {
		case name == "":
			s.add(field.Required(at, ""))
		case len(name) > sysctlMaxLength || !form.MatchString(name):
			s.invalid(at, name, fmt.Sprintf("must have at most %d characters and match regex %s", sysctlMaxLength, sysctlForm))
		case seen.Has(name):
			s.add(field.Duplicate(at, name))
		}
		seen.Insert(name)
		switch ns, _, _ := utilsysctl.GetNamespace(name); {
		case s.spec.HostNetwork && ns == utilsysctl.NetNamespace:
			s.invalid(at, name, "may not be specified when 'hostNetwork' is true")
		case s.spec.HostIPC && ns == utilsysctl.IPCNamespace:
			s.invalid(at, name, "may not be specified when 'hostIPC' is true")
		}
	}
}

// profiles refuses types that nobody knows: they must not come to mean no profile.
func (s *security) profiles(seccomp *corev1.SeccompProfile, appArmor *corev1.AppArmorProfile, at *field.Path) {
	if seccomp != nil {
		profile{"seccompProfile", "seccomp", string(seccomp.Type), seccomp.LocalhostProfile}.check(s, at)
		if p := seccomp.LocalhostProfile; p != nil {
			s.descends(at.Child("seccompProfile", "localhostProfile"), *p)
		}
	}
	if appArmor != nil {
		profile{"appArmorProfile", "AppArmor", string(appArmor.Type), appArmor.LocalhostProfile}.check(s, at)
	}
}

// profile is one of seccomp or AppArmor, whose types have the same names.
type profile struct {
	field, what, kind string
	localhost         *string
}

func (p profile) check(s *security, at *field.Path) {
	const localhost = string(corev1.SeccompProfileTypeLocalhost)
	known := []string{localhost, string(corev1.SeccompProfileTypeRuntimeDefault), string(corev1.SeccompProfileTypeUnconfined)}
	at = at.Child(p.field)
	switch {
	case p.kind == "":
		s.add(field.Required(at.Child("type"), "type is required when "+p.field+" is set"))
	case !slices.Contains(known, p.kind):
		s.add(field.NotSupported(at.Child("type"), p.kind, known))
	case p.kind == localhost && (p.localhost == nil || strings.TrimSpace(*p.localhost) == ""):
		s.add(field.Required(at.Child("localhostProfile"), "must be set when "+p.what+" type is Localhost"))
	case p.kind != localhost && p.localhost != nil:
		s.invalid(at.Child("localhostProfile"), *p.localhost, "can only be set when "+p.what+" type is Localhost")
	}
}

// descends refuses a path that leaves the folder that it is meant to be in.
func (s *security) descends(at *field.Path, p string) {
	if path.IsAbs(p) {
		s.invalid(at, p, "must be a relative path")
	}
	if containsDotDot(p) {
		s.invalid(at, p, "must not contain '..'")
	}
}

// name refuses what could be a way to another folder: volumes, containers and their logs lie
// under their names.
func (s *security) name(at *field.Path, name string) {
	if name == "" {
		s.add(field.Required(at, ""))
		return
	}
	s.invalid(at, name, validation.IsDNS1123Label(name)...)
}

func (s *security) container(c *corev1.Container, at *field.Path) {
	s.name(at.Child("name"), c.Name)
	privileged := c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
	for i := range c.VolumeMounts {
		m, at := &c.VolumeMounts[i], at.Child("volumeMounts").Index(i)
		s.descends(at.Child("subPath"), m.SubPath)
		s.descends(at.Child("subPathExpr"), m.SubPathExpr)
		if p := m.MountPropagation; p != nil {
			at := at.Child("mountPropagation")
			s.add(oneOf(at, *p, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)...)
			if *p == corev1.MountPropagationBidirectional && !privileged {
				s.add(field.Forbidden(at, "Bidirectional mount propagation is available only to privileged containers"))
			}
		}
	}
	if c.SecurityContext != nil {
		s.context(c.SecurityContext, privileged, at.Child("securityContext"))
	}
}

func (s *security) context(c *corev1.SecurityContext, privileged bool, at *field.Path) {
	s.ids(at, c.RunAsUser, c.RunAsGroup)
	s.profiles(c.SeccompProfile, c.AppArmorProfile, at)
	if p := c.ProcMount; p != nil {
		s.add(oneOf(at.Child("procMount"), *p, corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
		if s.hostUsers && *p == corev1.UnmaskedProcMount {
			s.invalid(at.Child("procMount"), *p, "`hostUsers` must be false to use `Unmasked`")
		}
	}
	if c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation {
		return
	}
	if privileged {
		s.invalid(at, c, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
	}
	if c.Capabilities != nil && slices.Contains(c.Capabilities.Add, "CAP_SYS_ADMIN") {
		s.invalid(at, c, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")
	}
}

// hostPorts checks the ports that containers, beginning with the number first at path, take
// of the machine. An address that is none would open the port on every address.
func (s *security) hostPorts(containers []corev1.Container, at *field.Path, first int) {
	taken := sets.New[string]()
	for i := range containers {
		for j := range containers[i].Ports {
			p, at := &containers[i].Ports[j], at.Index(first+i).Child("ports").Index(j)
			if _, err := netip.ParseAddr(p.HostIP); p.HostIP != "" && err != nil {
				s.invalid(at.Child("hostIP"), p.HostIP, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
			}
			if p.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
			if taken.Has(key) {
				s.add(field.Duplicate(at.Child("hostPort"), key))
			}
			taken.Insert(key)
		}
	}
}
