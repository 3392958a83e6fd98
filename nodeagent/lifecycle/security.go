package lifecycle

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	utilsysctl "k8s.io/component-helpers/node/util/sysctl"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// seccompFolder holds the seccomp profiles that Pods name as Localhost, below the
// agent's root folder.
const seccompFolder = "seccomp"

// security is computeSecurity, and what the node forbids: an ephemeral container comes
// after the Pod was admitted to it.
func (m *Manager) security(pod *keelsonv1.Pod, c *corev1.Container, image runtime.Image) (runtime.Security, error) {
	s, err := computeSecurity(pod, c, image, m.RootDir)
	if err == nil && s.Privileged && m.ForbidPrivileged {
		err = fmt.Errorf("container %s is privileged, which this node forbids (--allow-privileged=false)", c.Name)
	}
	return s, err
}

// computeSecurity merges what the Pod and the container say about the process's rights;
// the container's word counts where both speak. Its error says that the container must
// not run with this image.
func computeSecurity(pod *keelsonv1.Pod, c *corev1.Container, image runtime.Image, rootDir string) (runtime.Security, error) {
	var of corev1.PodSecurityContext
	if pod.Spec.SecurityContext != nil {
		of = *pod.Spec.SecurityContext
	}
	var own corev1.SecurityContext
	if c.SecurityContext != nil {
		own = *c.SecurityContext
	}
	s := runtime.Security{
		RunAsUser:              cmp.Or(own.RunAsUser, of.RunAsUser),
		RunAsGroup:             cmp.Or(own.RunAsGroup, of.RunAsGroup),
		StrictGroups:           is(of.SupplementalGroupsPolicy, corev1.SupplementalGroupsPolicyStrict),
		Privileged:             is(own.Privileged, true),
		ReadOnlyRootFilesystem: is(own.ReadOnlyRootFilesystem, true),
		NoNewPrivileges:        is(own.AllowPrivilegeEscalation, false),
		UnmaskedProc:           is(own.ProcMount, corev1.UnmaskedProcMount),
	}
	s.SELinux = computeSELinux(own.SELinuxOptions)
	if of.FSGroup != nil {
		s.SupplementalGroups = append(s.SupplementalGroups, *of.FSGroup)
	}
	s.SupplementalGroups = append(s.SupplementalGroups, of.SupplementalGroups...)
	if is(cmp.Or(own.RunAsNonRoot, of.RunAsNonRoot), true) {
		if err := checkNonRoot(s.RunAsUser, image.User); err != nil {
			return runtime.Security{}, fmt.Errorf("%w (pod: %q, container: %s)", err, podText(pod), c.Name)
		}
	}
	var err error
	if s.AppArmor, err = computeAppArmor(cmp.Or(own.AppArmorProfile, of.AppArmorProfile)); err != nil {
		return runtime.Security{}, err
	}
	s.Seccomp, err = computeSeccomp(cmp.Or(own.SeccompProfile, of.SeccompProfile), rootDir)
	return s, err
}

func is[T comparable](p *T, value T) bool { return p != nil && *p == value }

// checkNonRoot says why a process must not run, or cannot be known not to run, as root.
func checkNonRoot(chosen *int64, imageUser string) error {
	if chosen != nil && *chosen == 0 {
		return errors.New("container's runAsUser breaks non-root policy")
	}
	if chosen != nil {
		return nil
	}
	name, _, _ := strings.Cut(imageUser, ":")
	if name == "" {
		name = "0"
	}
	uid, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", name)
	}
	if uid == 0 {
		return errors.New("container has runAsNonRoot and image will run as root")
	}
	if problems := validation.IsValidUserID(uid); len(problems) > 0 {
		return fmt.Errorf("container has runAsNonRoot and image has an invalid user id (%d). (Must be 1-(%d)): %s",
			uid, math.MaxInt32, strings.Join(problems, "; "))
	}
	return nil
}

// computeSELinux is what a Pod or a container says of its label. What a container says
// replaces what the Pod says, also where it leaves parts open, as upstream.
func computeSELinux(options *corev1.SELinuxOptions) *runtime.SELinux {
	if options == nil {
		return nil
	}
	return &runtime.SELinux{User: options.User, Role: options.Role, Type: options.Type, Level: options.Level}
}

func computeAppArmor(profile *corev1.AppArmorProfile) (runtime.AppArmor, error) {
	if profile == nil {
		return runtime.AppArmor{Type: runtime.AppArmorUnset}, nil
	}
	switch profile.Type {
	case corev1.AppArmorProfileTypeRuntimeDefault:
		return runtime.AppArmor{Type: runtime.AppArmorRuntimeDefault}, nil
	case corev1.AppArmorProfileTypeLocalhost:
		if profile.LocalhostProfile == nil || strings.TrimSpace(*profile.LocalhostProfile) == "" {
			return runtime.AppArmor{}, errors.New("localhostProfile must be set if appArmorProfile type is Localhost")
		}
		return runtime.AppArmor{Type: runtime.AppArmorLocalhost, Profile: *profile.LocalhostProfile}, nil
	default:
		return runtime.AppArmor{Type: runtime.AppArmorUnconfined}, nil
	}
}

func computeSeccomp(profile *corev1.SeccompProfile, rootDir string) (runtime.Seccomp, error) {
	if profile == nil {
		return runtime.Seccomp{Type: runtime.SeccompUnconfined}, nil
	}
	switch profile.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return runtime.Seccomp{Type: runtime.SeccompRuntimeDefault}, nil
	case corev1.SeccompProfileTypeLocalhost:
		if profile.LocalhostProfile == nil || *profile.LocalhostProfile == "" {
			return runtime.Seccomp{}, errors.New("localhostProfile must be set if seccompProfile type is Localhost")
		}
		if !filepath.IsLocal(*profile.LocalhostProfile) {
			return runtime.Seccomp{}, fmt.Errorf("localhostProfile %q must be a path below the node's folder of profiles", *profile.LocalhostProfile)
		}
		path := filepath.Join(rootDir, seccompFolder, *profile.LocalhostProfile)
		return runtime.Seccomp{Type: runtime.SeccompLocalhost, Path: path}, nil
	default:
		return runtime.Seccomp{Type: runtime.SeccompUnconfined}, nil
	}
}

// sysctls are the Pod's kernel settings; a name may be written with slashes.
func sysctls(pod *keelsonv1.Pod) map[string]string {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	all := map[string]string{}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		all[utilsysctl.NormalizeName(s.Name)] = s.Value
	}
	return all
}
