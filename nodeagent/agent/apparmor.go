package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// appArmorSwitch is where the kernel says whether AppArmor is switched on.
const appArmorSwitch = "/sys/module/apparmor/parameters/enabled"

// reasonAppArmor is upstream's reason for a Pod whose profile nobody would enforce.
const reasonAppArmor = "AppArmor"

// appArmorEnabled reads the kernel's switch; a kernel without AppArmor has none.
func appArmorEnabled(file string) (bool, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for AppArmor: %w", err)
	}
	return strings.HasPrefix(string(text), "Y"), nil
}

// checkAppArmor refuses a Pod that wants a profile on a machine that enforces none. Being
// unconfined is what its processes are there anyway.
func checkAppArmor(pod *keelsonv1.Pod, enabled bool) *refusal {
	if enabled || !wantsAppArmor(&pod.Spec) {
		return nil
	}
	return &refusal{Reason: reasonAppArmor, Message: "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
}

func wantsAppArmor(spec *corev1.PodSpec) bool {
	wants := func(p *corev1.AppArmorProfile) bool {
		return p != nil && p.Type != corev1.AppArmorProfileTypeUnconfined
	}
	if spec.SecurityContext != nil && wants(spec.SecurityContext.AppArmorProfile) {
		return true
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if s := list[i].SecurityContext; s != nil && wants(s.AppArmorProfile) {
				return true
			}
		}
	}
	return false
}
