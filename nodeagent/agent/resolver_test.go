package agent

import (
	"os"
	"path/filepath"
	"strings"
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

func TestTheOwnersResolverFileIsTaken(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":                 "",
		file:               "",
		"resolv.conf":      "not an absolute path",
		file + ".other":    "no such file",
		filepath.Dir(file): "is a directory",
	} {
		o := NewOptions()
		o.ResolvConf = path
		err := o.validateResolvConf()
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "--resolv-conf: ")) {
			t.Errorf("%q: %v; want %q", path, err, want)
		}
		if got := o.resolverFile(); path != "" && got != path {
			t.Errorf("%q: takes %s", path, got)
		}
	}
}
