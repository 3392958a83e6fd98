package e2e

import (
	"fmt"
	"strings"
	"testing"
)

func TestBadManifestsAreRefusedWithEveryFault(t *testing.T) {
	s := newSpace(t)
	s.apply(service("taken", "clusterIP: 10.254.77.7"))
	s.apply(strings.Replace(service("takenport", "type: NodePort"), "targetPort: web", "targetPort: web, nodePort: 30777", 1))
	pod := func(body string) string {
		return "apiVersion: core.keelson.dev/v1\nkind: Pod\nmetadata: {name: bad}\nspec:\n" + body
	}
	one := "  containers: [{name: a, image: x}]\n"
	for name, tc := range map[string]struct {
		manifest string
		want     []string
	}{
		"unknown kind": {
			manifest: "apiVersion: core.keelson.dev/v1\nkind: Podd\nmetadata: {name: bad}\n",
			want:     []string{`no matches for kind "Podd"`},
		},
		"unknown field":  {manifest: pod(one + "  entrypoint: x\n"), want: []string{`unknown field "spec.entrypoint"`}},
		"wrong type":     {manifest: pod("  containers: [{name: a, image: x, command: sleep}]\n"), want: []string{"command"}},
		"missing name":   {manifest: strings.Replace(pod(one), "{name: bad}", "{}", 1), want: []string{"name"}},
		"restart policy": {manifest: pod(one + "  restartPolicy: Maybe\n"), want: []string{"spec.restartPolicy", `"Maybe"`, "Always"}},
		"port range":     {manifest: pod("  containers: [{name: a, image: x, ports: [{containerPort: 70000}]}]\n"), want: []string{"spec.containers[0].ports[0].containerPort", "between 1 and 65535"}},
		"several at once": {
			manifest: pod("  restartPolicy: Maybe\n  containers: [{name: A_B, image: x}, {name: ok, image: ''}]\n  resourceClaims: [{name: gpu, resourceClaimName: gpu}]\n"),
			want:     []string{"spec.restartPolicy", "spec.containers[0].name", "spec.containers[1].image", "spec.resourceClaims"},
		},
		"field that is not there yet": {
			manifest: pod("  containers: [{name: a, image: x}]\n  resourceClaims: [{name: gpu, resourceClaimName: gpu}]\n"),
			want:     []string{"spec.resourceClaims", "not supported"},
		},
		"selector against template": {
			manifest: strings.Replace(controller("bad", 1), "selector: {app: bad}", "selector: {app: other}", 1),
			want:     []string{"spec.template.metadata.labels", "selector"},
		},
		"template restart policy": {
			manifest: strings.Replace(controller("bad", 1), "terminationGracePeriodSeconds: 1", "restartPolicy: Never", 1),
			want:     []string{"spec.template.spec.restartPolicy"},
		},
		"cluster IP outside the range": {manifest: service("bad", "clusterIP: 192.168.1.1"), want: []string{"spec.clusterIP", "192.168.1.1", "10.254.0.0/16"}},
		"cluster IP taken":             {manifest: service("bad", "clusterIP: 10.254.77.7"), want: []string{"spec.clusterIP", "already allocated"}},
		"cluster IP is no IP":          {manifest: service("bad", "clusterIP: hello"), want: []string{"spec.clusterIP"}},
		"node port outside the range": {
			manifest: strings.Replace(service("bad", "type: NodePort"), "targetPort: web", "targetPort: web, nodePort: 80", 1),
			want:     []string{"spec.ports[0].nodePort", "30000-32767"},
		},
		"node port taken": {
			manifest: strings.Replace(service("bad", "type: NodePort"), "targetPort: web", "targetPort: web, nodePort: 30777", 1),
			want:     []string{"spec.ports[0].nodePort", "already allocated"},
		},
		"duplicate port names": {
			manifest: strings.Replace(service("bad", ""), "ports: [", "ports: [{name: http, port: 81}, ", 1),
			want:     []string{"spec.ports[1].name", "Duplicate"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := s.tryApply(tc.manifest)
			if err == nil {
				t.Fatalf("accepted: %s", out)
			}
			if err := wantIn(out, tc.want...); err != nil {
				t.Error(err)
			}
			if out, err := s.try("get", "kpo,krc,ksvc", "bad", "--ignore-not-found"); err != nil || strings.TrimSpace(out) != "" {
				t.Errorf("something was created: %s %v", out, err)
			}
		})
	}
}

func TestNumbersAsQuantitiesAreAccepted(t *testing.T) {
	s := newSpace(t)
	s.apply(strings.Replace(shellPod("numbers", "Never", "exit 0"), "- name: c0\n",
		"- name: c0\n    resources: {requests: {cpu: 0.05, memory: 1e6}, limits: {cpu: 1}}\n", 1))
	if got := s.run("get", "kpo", "numbers", "-o", "jsonpath={.spec.containers[0].resources.requests.cpu}"); got != "50m" {
		t.Errorf("cpu request is stored as %q, want 50m", got)
	}
}

func TestDefaultsAreUpstreams(t *testing.T) {
	s := newSpace(t)
	s.apply("apiVersion: core.keelson.dev/v1\nkind: Pod\nmetadata: {name: d}\nspec:\n  containers: [{name: a, image: " + cluster.Image(busyboxImage) + "}]\n")
	for path, want := range map[string]string{
		"{.spec.restartPolicy}":                        "Always",
		"{.spec.dnsPolicy}":                            "ClusterFirst",
		"{.spec.terminationGracePeriodSeconds}":        "30",
		"{.spec.schedulerName}":                        "default-scheduler",
		"{.spec.containers[0].imagePullPolicy}":        "IfNotPresent",
		"{.spec.containers[0].terminationMessagePath}": "/dev/termination-log",
		"{.spec.serviceAccountName}":                   "default",
		"{.spec.enableServiceLinks}":                   "true",
	} {
		if got := s.run("get", "kpo", "d", "-o", "jsonpath="+path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

func TestImmutableFieldsStay(t *testing.T) {
	s := newSpace(t)
	s.apply(shellPod("fixed", "Always", "sleep 3600"))
	s.apply(service("fixed", ""))
	ip := s.serviceIP("fixed")
	for _, tc := range []struct{ kind, patch, want string }{
		{"kpo", `{"spec":{"hostname":"other"}}`, "spec.hostname: Forbidden: may not change"},
		{"ksvc", fmt.Sprintf(`{"spec":{"clusterIP":%q,"clusterIPs":[%[1]q]}}`, "10.254.99.99"), "may not change once set"},
	} {
		out, err := s.try("patch", tc.kind, "fixed", "--type=merge", "-p", tc.patch)
		if err == nil {
			t.Errorf("%s was changed: %s", tc.kind, out)
		}
		if err := wantIn(out, tc.want); err != nil {
			t.Error(err)
		}
	}
	if got := s.serviceIP("fixed"); got != ip {
		t.Errorf("the address became %s", got)
	}
}
