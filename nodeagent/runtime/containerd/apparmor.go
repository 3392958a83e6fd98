package containerd

import (
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/contrib/apparmor"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	// defaultAppArmor is the name under which containerd's default profile is loaded.
	defaultAppArmor = "keelson-default"
	// appArmorProfiles is where the kernel lists the profiles that are loaded.
	appArmorProfiles = "/sys/kernel/security/apparmor/profiles"
)

// appArmorName makes sure that a container's profile is loaded and returns its name, empty
// for none.
func appArmorName(p runtime.AppArmor) (string, error) {
	switch p.Type {
	case runtime.AppArmorUnconfined:
		return "", nil
	case runtime.AppArmorRuntimeDefault:
		if err := apparmor.LoadDefaultProfile(defaultAppArmor); err != nil {
			return "", fmt.Errorf("load the default AppArmor profile: %w", err)
		}
		return defaultAppArmor, nil
	case runtime.AppArmorLocalhost:
		loaded, err := os.ReadFile(appArmorProfiles)
		if err != nil {
			return "", fmt.Errorf("read the AppArmor profiles of the machine: %w", err)
		}
		if !hasProfile(string(loaded), p.Profile) {
			return "", fmt.Errorf("apparmor profile not found %s", p.Profile)
		}
		return p.Profile, nil
	default:
		return "", fmt.Errorf("unknown AppArmor profile type %q", p.Type)
	}
}

// hasProfile looks for a name in the kernel's list, whose lines are "name (mode)".
func hasProfile(list, name string) bool {
	for line := range strings.Lines(list) {
		at := strings.LastIndex(line, " (")
		if at >= 0 && line[:at] == name {
			return true
		}
	}
	return false
}
