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
	const none = runtime.AppArmorUnset
	tests := map[string]struct {
		security runtime.Security
		confines bool
		wantErr  string
	}{
		"no profile on a machine without AppArmor":     {security: runtime.Security{}},
		"no confinement on a machine without AppArmor": {security: runtime.Security{AppArmor: runtime.AppArmor{Type: runtime.AppArmorUnconfined}}},
		"the default on a machine without AppArmor":    {security: runtime.Security{AppArmor: runtime.AppArmor{Type: runtime.AppArmorRuntimeDefault}}, wantErr: "apparmor is not supported"},
		"a profile of the machine without AppArmor":    {security: runtime.Security{AppArmor: runtime.AppArmor{Type: runtime.AppArmorLocalhost, Profile: "p"}}, wantErr: "apparmor is not supported"},
		"no confinement": {confines: true, security: runtime.Security{AppArmor: runtime.AppArmor{Type: runtime.AppArmorUnconfined}}},
		"a privileged container without a profile": {confines: true, security: runtime.Security{Privileged: true, AppArmor: runtime.AppArmor{Type: none}}},
		"a privileged container with the default":  {confines: true, security: runtime.Security{Privileged: true, AppArmor: runtime.AppArmor{Type: runtime.AppArmorRuntimeDefault}}},
		"a type that is none":                      {confines: true, security: runtime.Security{AppArmor: runtime.AppArmor{Type: "Other"}}, wantErr: `unknown AppArmor profile type "Other"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := appArmorName(tt.security, tt.confines)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if got != "" || message != tt.wantErr {
				t.Errorf("profile %q, error %q; want none, %q", got, message, tt.wantErr)
			}
		})
	}
}
