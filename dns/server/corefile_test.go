package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithoutForward(t *testing.T) {
	const file = "/etc/resolv.conf"
	for name, tt := range map[string]struct {
		corefile, want string
		left           int
	}{
		"a directive of one line":              {".:53 {\n  errors\n  forward . /etc/resolv.conf\n  loop\n}\n", ".:53 {\n  errors\n\n  loop\n}\n", 1},
		"one with a block":                     {".:53 {\n  forward . /etc/resolv.conf {\n    max_concurrent 1000\n  }\n  loop\n}\n", ".:53 {\n\n\n\n  loop\n}\n", 1},
		"one to a server stays":                {".:53 {\n  forward . 192.0.2.1\n}\n", ".:53 {\n  forward . 192.0.2.1\n}\n", 0},
		"one to both stays":                    {".:53 {\n  forward . 192.0.2.1 /etc/resolv.conf\n}\n", ".:53 {\n  forward . 192.0.2.1 /etc/resolv.conf\n}\n", 0},
		"another in the same block stays":      {".:53 {\n  forward corp 192.0.2.1 {\n    policy random\n  }\n  forward . /etc/resolv.conf\n}\n", ".:53 {\n  forward corp 192.0.2.1 {\n    policy random\n  }\n\n}\n", 1},
		"those of every server block":          {"a {\n  forward . /etc/resolv.conf\n}\nb {\n  forward . /etc/resolv.conf\n}\n", "a {\n\n}\nb {\n\n}\n", 2},
		"a zone called forward is none itself": {"forward {\n  errors\n}\n", "forward {\n  errors\n}\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, left, err := withoutForward("Corefile", []byte(tt.corefile), file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" || left != tt.left {
				t.Errorf("left out %d, want %d (-want +got):\n%s", left, tt.left, diff)
			}
		})
	}
}

func TestACorefileThatCannotBeParsedSaysWhere(t *testing.T) {
	if _, _, err := withoutForward("Corefile", []byte(".:53 {\n  errors\n"), "/etc/resolv.conf"); err == nil || !strings.Contains(err.Error(), "Corefile:") {
		t.Errorf("error %v", err)
	}
}

func TestHasServers(t *testing.T) {
	for content, want := range map[string]bool{
		"nameserver 192.0.2.1\n": true, "nameserver 127.0.0.53\nnameserver 2001:db8::1\n": true,
		"nameserver 127.0.0.53\n": false, "nameserver ::1\n": false, "search example.org\n": false, "": false,
	} {
		file := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := hasServers(file); got != want {
			t.Errorf("%q: %v, want %v", content, got, want)
		}
	}
	if hasServers("/does/not/exist") {
		t.Error("a file that is not there has servers")
	}
}

func TestDirectivesAreInCoreDNSOrder(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range directives() {
		if seen[d] {
			t.Errorf("%s is there twice", d)
		}
		seen[d] = true
	}
	for _, pair := range [][2]string{{"errors", "cache"}, {"autopath", "cache"}, {"rewrite", "cache"}, {"cache", "keelson"}, {"hosts", "keelson"}, {"keelson", "loop"}, {"loop", "forward"}} {
		all := strings.Join(directives(), " ") + " "
		if before, after := strings.Index(all, pair[0]+" "), strings.Index(all, pair[1]+" "); before < 0 || after < before {
			t.Errorf("%s does not come before %s", pair[0], pair[1])
		}
	}
}
