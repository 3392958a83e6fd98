package convert

import (
	"path/filepath"
	"slices"
	"strings"
)

// kustomizeGroup is the group of kustomization files; "builtin" is that of the
// transformers that a kustomization names in its lists.
const (
	kustomizeGroup   = "kustomize.config.k8s.io/"
	kustomizeBuiltin = "builtin"
)

// isKustomizationFile tells by the name: such a file needs no apiVersion.
func isKustomizationFile(name string) bool {
	return slices.Contains([]string{"kustomization.yaml", "kustomization.yml", "Kustomization"}, filepath.Base(name))
}

// isKustomize tells whether a document is one of kustomize's: a kustomization, a
// component, a built-in transformer, or a file of replacements.
func isKustomize(n *node) bool {
	if n.kind == sequence && len(n.items) > 0 {
		return isReplacement(n.items[0].resolved())
	}
	apiVersion := n.textOf("apiVersion")
	return apiVersion == kustomizeBuiltin || strings.HasPrefix(apiVersion, kustomizeGroup) || isReplacement(n)
}

func isReplacement(n *node) bool {
	return n.get("apiVersion") == nil && n.get("source") != nil && n.get("targets") != nil
}

// holdsText are the keys of kustomize whose strings are manifests or patches.
func holdsText(key string) bool {
	return slices.Contains([]string{"patch", "jsonOp", "patchesStrategicMerge", "transformers", "generators", "validators"}, key)
}

// patches converts the manifests and patches in a string or in a list of strings; a
// string of one line is the name of a file.
func (w *walker) patches(n *node, in scope) error {
	if n = n.resolved(); n == nil {
		return nil
	}
	if n.kind == sequence {
		for _, item := range n.items {
			if err := w.patches(item, in); err != nil {
				return err
			}
		}
		return nil
	}
	if n.kind != scalar || !n.isString {
		return w.walk(n, in)
	}
	if !strings.ContainsAny(n.text, "\n{") {
		return nil
	}
	changed, err := w.nested(n, scope{})
	if changed && isObjectPatch(n.text) {
		w.found.warnings = append(w.found.warnings, Warning{Line: n.line,
			Message: "kustomize knows no merge keys for custom resources: this patch replaces each list that it names as a whole. To merge them, convert what kustomize prints instead (kustomize build … | keelson convert -)"})
	}
	return err
}

// isObjectPatch is true for a strategic merge patch of a converted object, and not for a
// list of JSON patch operations or a transformer.
func isObjectPatch(text string) bool {
	doc, err := parse(newLines([]byte(text)))
	return err == nil && slices.ContainsFunc(doc.roots, func(root *node) bool {
		return root.kind == mapping && !isKustomize(root)
	})
}

// selector converts the group of a selector of kustomize: {group, version, kind}. One
// without a group selects every group, so it needs none.
func (w *walker) selector(n *node) {
	group, kind := n.get("group").resolved(), n.textOf("kind")
	if group == nil || group.kind != scalar || !group.isString || kind == "" {
		return
	}
	if converted, ours := w.c.group(group.text, n.textOf("version"), kind); ours {
		w.want(n, "group", converted)
	}
}

// isTemplateText tells whether a string has an action of Go's templates in it.
func isTemplateText(text string) bool { return strings.Contains(text, "{{") }
