package containerd

import (
	"testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestHasProfile(t *testing.T) {
	const list = "docker-default (enforce)\n/usr/sbin/cups (complain)\na name (with braces) (enforce)\n"
	for name, want := range map[string]bool{
		"docker-default": true, "/usr/sbin/cups": true, "a name (with braces)": true,
		"docker": false, "enforce": false, "": false, "docker-default (enforce)": false,
	} {
		if got := hasProfile(list, name); got != want {
			t.Errorf("%q: found %v, want %v", name, got, want)
		}
	}
}

func TestAppArmorName(t *testing.T) {
	if name, err := appArmorName(runtime.AppArmor{}); name != "" || err != nil {
		t.Errorf("without a profile: %q, %v", name, err)
	}
	if _, err := appArmorName(runtime.AppArmor{Type: "Other"}); err == nil {
		t.Error("took a type that is none")
	}
	if _, err := appArmorName(runtime.AppArmor{Type: runtime.AppArmorLocalhost, Profile: "no such profile"}); err == nil {
		t.Error("took a profile that is not loaded")
	}
}
