package containerd

import (
	"strings"
	"testing"

	tasktypes "github.com/containerd/containerd/api/types"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestLabelOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		of    *runtime.SELinux
		want  []string
		fails string
	}{
		"nothing is said":     {nil, nil, ""},
		"nothing is chosen":   {&runtime.SELinux{}, nil, ""},
		"all parts":           {&runtime.SELinux{User: "u", Role: "r", Type: "t", Level: "s0:c1,c2"}, []string{"user:u", "role:r", "type:t", "level:s0:c1,c2"}, ""},
		"a level alone":       {&runtime.SELinux{Level: "s0"}, []string{"level:s0"}, ""},
		"a range of levels":   {&runtime.SELinux{Level: "s0-s0:c0.c1023"}, []string{"level:s0-s0:c0.c1023"}, ""},
		"a level of no sense": {&runtime.SELinux{Level: "s0:c1,"}, nil, `the format of 'level' "s0:c1," is not correct`},
		"a secret one":        {&runtime.SELinux{Level: "secret"}, nil, `the format of 'level' "secret" is not correct`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := labelOptions(tc.of)
			if tc.fails == "" && err != nil || tc.fails != "" && (err == nil || err.Error() != tc.fails) {
				t.Fatalf("error %v, want %q", err, tc.fails)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLabelsOfASpec(t *testing.T) {
	given := labels{process: "u:r:container_t:s0:c1,c2", mount: "u:r:container_file_t:s0:c1,c2"}
	for name, tc := range map[string]struct {
		privileged bool
		want       labels
	}{
		"a container":          {false, given},
		"a privileged process": {true, labels{mount: given.mount}},
	} {
		t.Run(name, func(t *testing.T) {
			in := specInput{
				config: runtime.ContainerConfig{Command: []string{"true"}, Security: runtime.Security{Privileged: tc.privileged, Seccomp: runtime.Seccomp{Type: runtime.SeccompUnconfined}}},
				labels: given, held: &held{},
			}
			spec, err := containerSpec(in)
			if err != nil {
				t.Fatal(err)
			}
			if got := (labels{spec.Process.SelinuxLabel, spec.Linux.MountLabel}); got != tc.want {
				t.Errorf("labels %+v, want %+v", got, tc.want)
			}
		})
	}
	sandbox := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
	applyLabels(sandbox, labels{}, false)
	if sandbox.Process.SelinuxLabel+sandbox.Linux.MountLabel != "" {
		t.Error("labelled without SELinux, which runc refuses")
	}
}

func TestContextOfARootFileSystem(t *testing.T) {
	mounts := []*tasktypes.Mount{{Type: "overlay", Options: []string{"lowerdir=/a"}}, {Type: "bind", Options: []string{"rbind"}}}
	withContext(mounts, "")
	withContext(mounts, "u:r:t:s0:c1,c2")
	want := []string{`lowerdir=/a,context="u:r:t:s0:c1,c2"`, "rbind"}
	for i, m := range mounts {
		if got := strings.Join(m.Options, ","); got != want[i] {
			t.Errorf("options %s, want %s", got, want[i])
		}
	}
}
