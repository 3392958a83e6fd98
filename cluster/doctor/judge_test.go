package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func healthy() Facts {
	return Facts{
		Root: true, Filesystems: []string{"proc", "overlay"}, CgroupV2: true, Controllers: []string{"cpu", "memory", "pids", "io"},
		LinkErrors: map[string]error{"bridge": nil, "veth": nil},
	}
}

func TestJudge(t *testing.T) {
	tests := map[string]struct {
		change func(*Facts)
		want   []Problem
	}{
		"a machine that has everything": {change: func(*Facts) {}},
		"not root": {
			change: func(f *Facts) { f.Root = false },
			want:   []Problem{{"not running as root: containers, network namespaces and iptables need it", "run it again with sudo"}},
		},
		"programs of one package are one problem": {
			change: func(f *Facts) {
				f.MissingTools = []Tool{{"iptables", "iptables"}, {"iptables-save", "iptables"}, {"crun", "crun"}}
			},
			want: []Problem{
				{"crun not found in PATH", "apt-get install crun"},
				{"iptables, iptables-save not found in PATH", "apt-get install iptables"},
			},
		},
		"a program that was not built names its target": {
			change: func(f *Facts) { f.MissingBuilt = []Built{{"bin/k8s/etcd", "k8s"}} },
			want:   []Problem{{"bin/k8s/etcd is missing", "make k8s"}},
		},
		"a kernel without overlay, veth and nat": {
			change: func(f *Facts) {
				f.Filesystems = nil
				f.LinkErrors["veth"] = errors.New("RTNETLINK answers: Operation not supported")
				f.NATError = errors.New("Table does not exist")
			},
			want: []Problem{
				{"the kernel has no overlay file system, which container images need", "modprobe overlay"},
				{"cannot make a veth interface in a new network namespace: RTNETLINK answers: Operation not supported", "modprobe veth"},
				{"iptables cannot use the nat table: Table does not exist", "modprobe nf_nat nft_compat, or choose the other backend: update-alternatives --config iptables"},
			},
		},
		"a controller missing in version 2": {
			change: func(f *Facts) { f.Controllers = []string{"cpu", "pids"} },
			want: []Problem{{
				"the cgroup controller memory is not available, so limits of containers cannot be kept", "boot with cgroup_enable=memory",
			}},
		},
		"a controller missing in version 1": {
			change: func(f *Facts) { f.CgroupV2, f.Controllers = false, []string{"cpu", "memory"} },
			want: []Problem{{
				"the cgroup controller pids is not available, so limits of containers cannot be kept",
				"mount -t cgroup -o pids cgroup /sys/fs/cgroup/pids",
			}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			tt.change(&f)
			if diff := cmp.Diff(tt.want, Judge(f)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRenderNamesEveryFixAndOneCommandForAllPackages(t *testing.T) {
	f := healthy()
	f.Root = false
	f.MissingTools = []Tool{{"runc", "runc"}, {"crun", "crun"}}
	want := `This machine cannot run a cluster yet (3 to fix):
  - not running as root: containers, network namespaces and iptables need it
      fix: run it again with sudo
  - crun not found in PATH
      fix: apt-get install crun
  - runc not found in PATH
      fix: apt-get install runc
All packages at once: apt-get install crun runc
`
	if diff := cmp.Diff(want, Render(Judge(f))); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestGatherNoticesWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	plain := filepath.Join(t.TempDir(), "not-executable")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	built := []Built{{plain, "build"}, {"/does/not/exist", "k8s"}}
	f, err := Gather(t.Context(), built)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tools, f.MissingTools); diff != "" {
		t.Errorf("missing tools (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(built, f.MissingBuilt); diff != "" {
		t.Errorf("missing programs (-want +got):\n%s", diff)
	}
}

func TestCgroups(t *testing.T) {
	tests := map[string]struct {
		files  map[string]string
		wantV2 bool
		want   []string
	}{
		"version 2 lists them in a file": {
			files: map[string]string{"cgroup.controllers": "cpuset cpu memory\n"}, wantV2: true, want: []string{"cpuset", "cpu", "memory"},
		},
		"version 1 mounts each": {
			files: map[string]string{"memory/cgroup.procs": "", "cpu/cgroup.procs": "", "systemd/cgroup.procs": ""}, want: []string{"cpu", "memory"},
		},
		"a folder where nothing is mounted does not count": {
			files: map[string]string{"memory/README": ""},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, content := range tt.files {
				path := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			v2, got, err := cgroups(root)
			if err != nil || v2 != tt.wantV2 {
				t.Errorf("version 2: %v, error %v", v2, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("controllers (-want +got):\n%s", diff)
			}
		})
	}
}
