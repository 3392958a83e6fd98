package agent

import (
	"os"
	"path/filepath"
	"testing"
)

func TestChooseResolverFile(t *testing.T) {
	const stub, upstream = "nameserver 127.0.0.53\noptions edns0\n", "nameserver 192.0.2.53\n"
	tests := map[string]struct {
		etc, systemd string
		want         string
	}{
		"an ordinary machine":                  {upstream, "", "etc"},
		"systemd-resolved":                     {stub, upstream, "systemd"},
		"a server of each kind":                {stub + upstream, upstream, "etc"},
		"a resolver of its own on the machine": {stub, "", "etc"},
		"no resolver at all":                   {"", "", "etc"},
		"no server is an address":              {"nameserver here\n", "nameserver ::1\n", "etc"},
		"a server with IPv6":                   {stub, "nameserver 2001:db8::53\n", "systemd"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"etc": tt.etc, "systemd": tt.systemd} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := filepath.Base(chooseResolverFile(filepath.Join(dir, "etc"), filepath.Join(dir, "systemd"))); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
