package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadLogs(t *testing.T) {
	tests := map[string]struct {
		log    string
		want   string // part of the complaint; "": none
		denied []string
	}{
		"nothing special": {log: `"Bound" pod="a/b"`},
		"a namespace that is being deleted": {
			log: `pods "x" is forbidden: unable to create new content in namespace a because it is being terminated`,
		},
		"a right in the whole cluster": {
			log:    `err="nodes.core.keelson.dev is forbidden: User \"keelson:manager\" cannot list resource \"nodes\" in API group \"core.keelson.dev\" at the cluster scope"`,
			denied: []string{"auth can-i list nodes.core.keelson.dev --as keelson:manager --as-group system:authenticated --all-namespaces"},
		},
		"a right to one object of a namespace": {
			log:    `err="pods.core.keelson.dev \"web\" is forbidden: User \"keelson:node:vm\" cannot patch resource \"pods/status\" in API group \"core.keelson.dev\" in the namespace \"a\""`,
			denied: []string{"auth can-i patch pods.core.keelson.dev/web --as keelson:node:vm --as-group system:authenticated --subresource status --as-group keelson:nodes --namespace a"},
		},
		"a right to a kind without a group": {
			log:    `secrets is forbidden: User "keelson:manager" cannot list resource "secrets" in API group "" in the namespace "a"`,
			denied: []string{"auth can-i list secrets --as keelson:manager --as-group system:authenticated --namespace a"},
		},
		"the policy of node agents": {
			log:  `pods "x" is forbidden: ValidatingAdmissionPolicy 'keelson-node' denied request`,
			want: "keelson-manager.log says: pods",
		},
		"a crash": {log: "panic: runtime error: index out of range", want: "index out of range"},
		"a race":  {log: "WARNING: DATA RACE", want: "DATA RACE"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := &Cluster{DataDir: t.TempDir()}
			if _, err := c.readLogs(); err == nil {
				t.Error("no log at all is not noticed")
			}
			if err := os.Mkdir(filepath.Join(c.DataDir, "logs"), 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"keelson-manager.log": "before\n" + tc.log + "\nafter\n", "etcd.log": "panic: not ours\n"} {
				if err := os.WriteFile(filepath.Join(c.DataDir, "logs", file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			rights, err := c.readLogs()
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("complains: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("says %v, want %q", err, tc.want)
			}
			var questions []string
			for r := range rights {
				questions = append(questions, strings.Join(canI(r), " "))
			}
			if diff := cmp.Diff(tc.denied, questions); diff != "" {
				t.Errorf("questions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOnlyWhatPodsNameMayBeForbiddenWithoutThem(t *testing.T) {
	const node = "keelson:node:vm"
	tests := map[string]struct {
		right right
		want  bool
	}{
		"a Secret that a Pod names":       {right{node, "list", "secrets", "", "a", "password"}, true},
		"a ConfigMap":                     {right{node, "watch", "configmaps", "", "a", "settings"}, true},
		"the token of its account":        {right{node, "create", "serviceaccounts/token", "", "a", "default"}, true},
		"a certificate":                   {right{node, "create", "podcertificaterequests", "certificates.k8s.io", "a", ""}, true},
		"all Secrets of a Namespace":      {right{node, "list", "secrets", "", "a", ""}, false},
		"Secrets of the cluster":          {right{node, "list", "secrets", "", "", "password"}, false},
		"a write":                         {right{node, "update", "configmaps", "", "a", "settings"}, false},
		"the status of a Pod":             {right{node, "patch", "pods/status", "core.keelson.dev", "a", "web"}, false},
		"an event":                        {right{node, "create", "events", "", "a", ""}, false},
		"what the manager does not reach": {right{"keelson:manager", "get", "secrets", "", "a", "password"}, false},
	}
	for name, tc := range tests {
		if got := tc.right.ofPods(); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
