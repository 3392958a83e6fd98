package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFlagsOfTheAPIServerAreChecked(t *testing.T) {
	tests := map[string]struct {
		args []string
		// want are parts of the error; none: there is none.
		want []string
	}{
		"none": {},
		"ordinary ones, with or without dashes and values": {args: []string{"v=4", "--enable-admission-plugins=AlwaysPullImages", "contention-profiling"}},
		"what up only prefers":                             {args: []string{"allow-privileged=false", "profiling=true"}},
		"taking all back":                                  {args: []string{""}},
		"what the cluster relies on": {args: []string{"authorization-mode=AlwaysAllow", "--etcd-servers=http://192.0.2.1:2379"},
			want: []string{"--apiserver-arg: authorization-mode is what keelson up decides", "--apiserver-arg: etcd-servers is what keelson up decides"}},
		"what has a flag of its own": {args: []string{"bind-address=0.0.0.0", "secure-port=1", "service-cluster-ip-range=10.0.0.0/8"},
			want: []string{"bind-address is what keelson up decides: use --node-ip", "secure-port is what keelson up decides: use --apiserver-port", "use --service-cidr"}},
		"what makes it no server":  {args: []string{"version", "--help=true"}, want: []string{"version is what", "help is what"}},
		"no flag":                  {args: []string{"v 4", "-v=4", "=4"}, want: []string{`"v 4" is not NAME=VALUE`, `"-v=4" is not`, `"=4" is not`}},
		"nothing beside something": {args: []string{"v=4", ""}, want: []string{`"" is not NAME=VALUE`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := NewOptions()
			o.APIServerArgs = tt.args
			err := o.Validate()
			if (err != nil) != (len(tt.want) > 0) {
				t.Errorf("error %v", err)
			}
			for _, want := range tt.want {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("error %v lacks %q", err, want)
				}
			}
		})
	}
	o := NewOptions()
	o.APIServerPort = 65536
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "--apiserver-port: 65536 is not between 1 and 65535") {
		t.Errorf("a port that is none: %v", err)
	}
}

func TestFlagsThatTheAPIServerDoesNotKnowAreToldAtOnce(t *testing.T) {
	program := filepath.Join(t.TempDir(), "kube-apiserver")
	script := `#!/bin/sh
for arg; do last=$arg; done
test "$last" = --version=true || exit 3
case $1 in
--v=4) echo Kubernetes v1;;
--feature-gates=*) echo 'E1122 run.go:72] "command failed" err="unrecognized feature gate: Foo"' >&2; exit 1;;
*) printf 'Error: unknown flag: %s\nUsage:\n' "$1" >&2; exit 1;;
esac
`
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := tryAPIServerArgs(t.Context(), program, []string{"--v=4"}); err != nil {
		t.Errorf("a flag that it knows: %v", err)
	}
	if err := tryAPIServerArgs(t.Context(), "/does/not/exist", nil); err != nil {
		t.Errorf("no flags: %v", err)
	}
	for flag, want := range map[string]string{
		"--colour":                 "--apiserver-arg: kube-apiserver does not take --colour: unknown flag: --colour",
		"--feature-gates=Foo=true": "unrecognized feature gate: Foo",
	} {
		if err := tryAPIServerArgs(t.Context(), program, []string{flag}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", flag, err, want)
		}
	}
}

func TestOtherFlagsOfTheAPIServerTakeARestart(t *testing.T) {
	s := settings()
	s.APIServerArgs = []string{"--v=4"}
	o := NewOptions()
	o.APIServerArgs = []string{"v=4"}
	if err := sameWhileRunning(s, *o); err != nil {
		t.Errorf("the same: %v", err)
	}
	o.APIServerArgs = []string{"v=5"}
	if err := sameWhileRunning(s, *o); err == nil || !strings.Contains(err.Error(), "--apiserver-arg: the cluster runs with --v=4: end it with 'keelson down --keep-data' first") {
		t.Errorf("others: %v", err)
	}
}
