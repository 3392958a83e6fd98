package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestColumnsAreThoseAUserKnows(t *testing.T) {
	s := newSpace(t)
	s.apply(controller("web", 1))
	s.apply(service("web", ""))
	s.ready("web", 1)
	s.endpoints("web", 1)
	s.serviceIP("web")
	for what, tc := range map[string]struct {
		args []string
		want []string // regular expressions, one for each line
	}{
		"Pods": {[]string{"get", "kpo"}, []string{
			`^NAME +READY +STATUS +RESTARTS +AGE$`, `^web-[a-z0-9]{5} +1/1 +Running +0 +\d+s$`}},
		"Pods, wide": {[]string{"get", "kpo", "-o", "wide"}, []string{
			`^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE +NOMINATED NODE +READINESS GATES +LAST RESTART$`, `^web-\w+ +1/1 +Running +0 +\w+ +10\.244\.\d+\.\d+ +\S+`}},
		"controllers": {[]string{"get", "krc", "-o", "wide"}, []string{
			`^NAME +DESIRED +CURRENT +READY +AGE +CONTAINERS +IMAGES +SELECTOR$`, `^web +1 +1 +1 +\w+ +main +\S+testserver:v1 +app=web$`}},
		"Services": {[]string{"get", "ksvc", "-o", "wide"}, []string{
			`^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE +SELECTOR$`, `^web +ClusterIP +10\.254\.\d+\.\d+ +<none> +80/TCP +\w+ +app=web$`}},
		"Endpoints": {[]string{"get", "kep"}, []string{
			`^NAME +ENDPOINTS +AGE$`, `^web +10\.244\.\d+\.\d+:8080 +\w+$`}},
		"Nodes": {[]string{"get", "kno", "-o", "wide"}, []string{
			`^NAME +STATUS +ROLES +AGE +VERSION +INTERNAL-IP +EXTERNAL-IP +OS-IMAGE +KERNEL-VERSION +CONTAINER-RUNTIME$`,
			`^\S+ +Ready +<none> +\w+ +\S+ +198\.18\.0\.2 +<none> +.*containerd://`}},
	} {
		t.Run(what, func(t *testing.T) {
			s := &space{t: t, Name: s.Name}
			s.eventually(soon, what, func() error {
				lines := strings.Split(strings.TrimSpace(s.run(tc.args...)), "\n")
				for i, want := range tc.want {
					if i >= len(lines) || !regexp.MustCompile(want).MatchString(strings.TrimRight(lines[i], " ")) {
						return wantIn(strings.Join(lines, "\n"), want)
					}
				}
				return nil
			})
		})
	}
	t.Run("everything under one category", func(t *testing.T) {
		if err := wantIn(s.run("get", "keelson", "-A"), "pod.core.keelson.dev/web-", "service.core.keelson.dev/web",
			"endpoints.core.keelson.dev/web", "replicationcontroller.core.keelson.dev/web", "node.core.keelson.dev/"); err != nil {
			t.Error(err)
		}
	})
	t.Run("explain", func(t *testing.T) {
		if err := wantIn(s.run("explain", "kpo.spec.containers.image"), "GROUP:", "core.keelson.dev", "image"); err != nil {
			t.Error(err)
		}
	})
}

// TestCRDsApplyWithPlainKubectl: client-side apply stores the whole object in an
// annotation, and annotations of one object are limited to 262,144 bytes.
func TestCRDsApplyWithPlainKubectl(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(cluster.Root, "config/crd/bases/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs found: %v", err)
	}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
		if out, err := kubectl(t.Context(), "", "apply", "--server-side=false", "-f", file); err != nil {
			t.Errorf("%s: %v\n%s", filepath.Base(file), err, out)
		}
	}
}

func TestSamplesAreAccepted(t *testing.T) {
	s := newSpace(t)
	samples, err := filepath.Glob(filepath.Join(cluster.Root, "config/samples/*.yaml"))
	if err != nil || len(samples) == 0 {
		t.Fatalf("no samples found: %v", err)
	}
	for _, sample := range samples {
		out, err := s.try("apply", "--dry-run=server", "--validate=strict", "-f", sample)
		if err != nil {
			t.Errorf("%s: %v\n%s", filepath.Base(sample), err, out)
		}
	}
}
