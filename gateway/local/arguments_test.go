package local

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArgumentsAreDivided(t *testing.T) {
	type want struct {
		Rest                                     []string
		Kubeconfig, Context, User, Server, Token string
		As                                       string
		AsGroups                                 []string
		AsExtra                                  map[string][]string
		Insecure, Direct                         bool
	}
	tests := map[string]struct {
		args    []string
		want    want
		wantErr string
	}{
		"nothing": {},
		"what kubectl does is left alone": {
			args: []string{"get", "pods", "-n", "x", "-l", "a=b", "--request-timeout=5s", "--cache-dir", "/c"},
			want: want{Rest: []string{"get", "pods", "-n", "x", "-l", "a=b", "--request-timeout=5s", "--cache-dir", "/c"}},
		},
		"what chooses the cluster is taken off, before the command and behind it": {
			args: []string{"--context", "c", "get", "--kubeconfig=/k", "pods", "--token=t", "-s", "https://s", "--insecure-skip-tls-verify"},
			want: want{Rest: []string{"get", "pods"}, Kubeconfig: "/k", Context: "c", Token: "t", Server: "https://s", Insecure: true},
		},
		"the server in short": {
			args: []string{"-shttps://s", "get", "pods"}, want: want{Rest: []string{"get", "pods"}, Server: "https://s"},
		},
		"the server in short with an equals sign": {
			args: []string{"get", "-s=https://s"}, want: want{Rest: []string{"get"}, Server: "https://s"},
		},
		"a boolean does not swallow what follows": {
			args: []string{"--insecure-skip-tls-verify", "get", "pods"}, want: want{Rest: []string{"get", "pods"}, Insecure: true},
		},
		"impersonation": {
			args: []string{"get", "pods", "--as=bob", "--as-group", "a", "--as-group=b", "--as-user-extra=k=v", "--as-user-extra", "k=w"},
			want: want{Rest: []string{"get", "pods"}, As: "bob", AsGroups: []string{"a", "b"}, AsExtra: map[string][]string{"k": {"v", "w"}}},
		},
		"behind two dashes everything is the container's": {
			args: []string{"exec", "p", "--context=c", "--", "cmd", "--token", "x", "-s", "y"},
			want: want{Rest: []string{"exec", "p", "--", "cmd", "--token", "x", "-s", "y"}, Context: "c"},
		},
		"the user of the credentials": {
			args: []string{"get", "pods", "--user=u"}, want: want{Rest: []string{"get", "pods"}, User: "u"},
		},
		"the user to bind": {
			args: []string{"create", "clusterrolebinding", "b", "--clusterrole=c", "--user=u", "--context=x"},
			want: want{Rest: []string{"create", "clusterrolebinding", "b", "--clusterrole=c", "--user=u"}, Context: "x"},
		},
		"the user to bind, with a flag in between": {
			args: []string{"-n", "x", "create", "-o", "yaml", "rolebinding", "b", "--user", "u"},
			want: want{Rest: []string{"-n", "x", "create", "-o", "yaml", "rolebinding", "b", "--user", "u"}},
		},
		"the subject to set": {
			args: []string{"set", "subject", "rolebinding", "b", "--user=u"}, want: want{Rest: []string{"set", "subject", "rolebinding", "b", "--user=u"}},
		},
		"commands about the kubeconfig are kubectl's": {
			args: []string{"config", "set-credentials", "x", "--token=t", "--kubeconfig=/k"},
			want: want{Rest: []string{"config", "set-credentials", "x", "--token=t", "--kubeconfig=/k"}, Direct: true},
		},
		"a namespace is no command": {
			args: []string{"-n", "config", "get", "pods", "--context=c"}, want: want{Rest: []string{"-n", "config", "get", "pods"}, Context: "c"},
		},
		"a context is no command": {
			args: []string{"--context", "config", "get", "pods"}, want: want{Rest: []string{"get", "pods"}, Context: "config"},
		},
		"a flag whose name begins alike": {
			args: []string{"get", "--server-print=false", "--as-of=x"}, want: want{Rest: []string{"get", "--server-print=false", "--as-of=x"}},
		},
		"a value that is missing":      {args: []string{"get", "--context"}, wantErr: "flag needs an argument: --context"},
		"a value that is no boolean":   {args: []string{"get", "--insecure-skip-tls-verify=maybe"}, wantErr: "insecure-skip-tls-verify"},
		"an extra value without a key": {args: []string{"get", "--as-user-extra=v"}, wantErr: "as-user-extra"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, err := divide(tt.args)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			auth, cluster := a.overrides.AuthInfo, a.overrides.ClusterInfo
			got := want{
				Rest: a.rest, Direct: a.direct, Kubeconfig: a.kubeconfig,
				Context: a.overrides.CurrentContext, User: a.overrides.Context.AuthInfo,
				Server: cluster.Server, Insecure: cluster.InsecureSkipTLSVerify,
				Token: auth.Token, As: auth.Impersonate, AsGroups: auth.ImpersonateGroups, AsExtra: auth.ImpersonateUserExtra,
			}
			if len(got.AsGroups) == 0 {
				got.AsGroups = nil
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("divided (-want +got):\n%s", diff)
			}
		})
	}
}
