package containerd

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	// defaultAppArmor is the name under which containerd's default profile is loaded.
	defaultAppArmor = "keelson-default"
	// appArmorProfiles is where the kernel lists the profiles that are loaded.
	appArmorProfiles = "/sys/kernel/security/apparmor/profiles"
)

// errNoAppArmor is containerd's word for a kernel without AppArmor, or a machine without the
// program that loads profiles.
var errNoAppArmor = errors.New("apparmor is not supported")

// appArmorName makes sure that a container's profile is loaded and returns its name, empty
// for none. confines says that this machine can load and enforce profiles.
func appArmorName(s runtime.Security, confines bool) (string, error) {
	switch p := s.AppArmor; p.Type {
	case runtime.AppArmorUnset, runtime.AppArmorRuntimeDefault:
		return defaultAppArmorName(s, confines)
	case runtime.AppArmorUnconfined:
		return "", nil
	case runtime.AppArmorLocalhost:
		if !confines {
			return "", errNoAppArmor
		}
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

func defaultAppArmorName(s runtime.Security, confines bool) (string, error) {
	switch {
	case !confines && s.AppArmor.Type == runtime.AppArmorRuntimeDefault:
		return "", errNoAppArmor
	case !confines, s.Privileged:
		return "", nil
	}
	if err := loadDefaultProfile(); err != nil {
		return "", fmt.Errorf("load the default AppArmor profile: %w", err)
	}
	return defaultAppArmor, nil
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
