package admission

import (
	"strings"
	"testing"
)

func workload(apiVersion, kind, spec string) string {
	return "apiVersion: " + apiVersion + "\nkind: " + kind + "\nmetadata:\n  name: a\nspec:\n" + spec +
		"  template: {metadata: {labels: {a: b}}, spec: {restartPolicy: RESTART, containers: [{name: c, image: i}]}}\n"
}

// testSelectors: an owner whose selector does not match its template would make Pods
// for ever. Each kind says so in upstream's words.
func testSelectors(t *testing.T) {
	k := newKubectl(t)
	const mismatch = "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`"
	for kind, tc := range map[string]struct {
		object, want string
	}{
		"ReplicationController": {workload("core.keelson.dev/v1", "ReplicationController", "  selector: {a: c}\n"), mismatch},
		"ReplicaSet":            {workload("apps.keelson.dev/v1", "ReplicaSet", "  selector: {matchLabels: {a: c}}\n"), mismatch},
		"Deployment":            {workload("apps.keelson.dev/v1", "Deployment", "  selector: {matchLabels: {a: c}}\n"), mismatch},
		"DaemonSet":             {workload("apps.keelson.dev/v1", "DaemonSet", "  selector: {matchLabels: {a: c}}\n"), mismatch},
		"StatefulSet":           {workload("apps.keelson.dev/v1", "StatefulSet", "  serviceName: s\n  selector: {matchLabels: {a: c}}\n"), mismatch},
		"Job":                   {workload("batch.keelson.dev/v1", "Job", "  manualSelector: true\n  selector: {matchLabels: {a: c}}\n"), mismatch},
	} {
		t.Run(kind, func(t *testing.T) {
			policy := "Always"
			if kind == "Job" {
				policy = "Never"
			}
			k.refused(t, strings.ReplaceAll(tc.object, "RESTART", policy), []string{`The ` + kind + ` "a" is invalid: ` + tc.want}, "create", "-f", "-")
		})
	}
	if left := k.must(t, "", "get", "krc,krs,kdeploy,kds,ksts,kjob", "-o", "name"); left != "" {
		t.Errorf("refused objects are stored: %s", left)
	}
}
