package containerd

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed keelson-default.apparmor
var defaultProfile string

// appArmorMacros is where AppArmor's own parts of profiles lie.
const appArmorMacros = "/etc/apparmor.d"

// renderProfile completes the default profile with what a machine has: the macros that exist,
// and the profile of whoever sends signals to containers.
func renderProfile(exists func(macro string) bool, manager string) string {
	text := defaultProfile
	if exists("tunables/global") {
		text = strings.Replace(text, "@{PROC}=/proc/\n", "#include <tunables/global>\n", 1)
	}
	if exists("abi/3.0") {
		text = "abi <abi/3.0>,\n" + text
	}
	if exists("abstractions/base") {
		text = strings.Replace(text, " {\n", " {\n  #include <abstractions/base>\n", 1)
	}
	const signals = "  # Manager may send signals to container processes.\n  signal (receive) peer="
	return strings.Replace(text, signals+"unconfined,", signals+manager+",", 1)
}

// ownProfile is the one that confines this process.
func ownProfile() string {
	text, err := os.ReadFile("/proc/self/attr/current")
	name, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if err != nil || name == "" {
		return "unconfined"
	}
	return name
}

func macroExists(macro string) bool {
	_, err := os.Stat(filepath.Join(appArmorMacros, macro))
	return err == nil
}

// loadDefaultProfile gives the kernel the default profile, unless it has it.
func loadDefaultProfile() error {
	loaded, err := os.ReadFile(appArmorProfiles)
	if err != nil {
		return fmt.Errorf("read the AppArmor profiles of the machine: %w", err)
	}
	if hasProfile(string(loaded), defaultAppArmor) {
		return nil
	}
	parser := exec.Command("apparmor_parser", "-Kr")
	parser.Stdin = strings.NewReader(renderProfile(macroExists, ownProfile()))
	if out, err := parser.CombinedOutput(); err != nil {
		return fmt.Errorf("apparmor_parser: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
