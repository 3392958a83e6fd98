package containerd

import (
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/contrib/apparmor"
	"github.com/google/go-cmp/cmp"
)

// rules are the lines of a profile that are no comments, in order.
func rules(profile string) []string {
	var out []string
	for line := range strings.Lines(profile) {
		line = strings.TrimSpace(line)
		if line != "" && (!strings.HasPrefix(line, "#") || strings.HasPrefix(line, "#include")) {
			out = append(out, line)
		}
	}
	return out
}

// The library is not linked into the agent: its template engine would make the linker keep
// a third more of the program.
func TestDefaultProfileIsContainerds(t *testing.T) {
	want, err := apparmor.DumpDefaultProfile(defaultAppArmor)
	if err != nil {
		t.Fatal(err)
	}
	got := renderProfile(macroExists, ownProfile())
	if diff := cmp.Diff(rules(want), rules(got)); diff != "" {
		t.Errorf("rules on this machine (-want +got):\n%s", diff)
	}
}

func TestProfileOfAMachineWithMacros(t *testing.T) {
	got := rules(renderProfile(func(string) bool { return true }, "manager"))
	want := []string{"abi <abi/3.0>,", "#include <tunables/global>", "profile keelson-default flags=(attach_disconnected,mediate_deleted) {", "#include <abstractions/base>"}
	if diff := cmp.Diff(want, got[:len(want)]); diff != "" {
		t.Errorf("beginning (-want +got):\n%s", diff)
	}
	if n := strings.Count(strings.Join(got, "\n"), "peer=manager,"); n != 1 {
		t.Errorf("%d rules name the manager", n)
	}
}
