package admission

import (
	"strings"
	"testing"
)

// testTemplateGeneration: the annotation is a field of upstream's DaemonSets, which an
// update of metadata alone cannot touch.
func testTemplateGeneration(t *testing.T) {
	k := newKubectl(t)
	const path = `{.metadata.annotations.deprecated\.daemonset\.template\.generation}`
	k.create(t, strings.ReplaceAll(workload("apps.keelson.dev/v1", "DaemonSet", "  selector: {matchLabels: {a: b}}\n"), "RESTART", "Always"))
	expect(t, "a new one", "1", k.show(t, "kds/a", path))
	k.must(t, "", "patch", "kds/a", "--type=merge", "-p", `{"spec":{"template":{"metadata":{"labels":{"c":"d"}}}}}`)
	expect(t, "another template", "2", k.show(t, "kds/a", path))

	k.must(t, "", "annotate", "kds/a", "deprecated.daemonset.template.generation-")
	expect(t, "taken out", "2", k.show(t, "kds/a", path))
	k.must(t, "", "annotate", "kds/a", "--overwrite", "deprecated.daemonset.template.generation=7")
	expect(t, "set", "2", k.show(t, "kds/a", path))
	k.refused(t, "", []string{`Error from server (BadRequest): admission webhook "admission.keelson.dev" denied the request: DaemonSet in version "v1" cannot be handled as a DaemonSet: strconv.ParseInt: parsing "many": invalid syntax`}, "annotate", "kds/a", "--overwrite", "deprecated.daemonset.template.generation=many")
	expect(t, "refused", "2", k.show(t, "kds/a", path))
}
