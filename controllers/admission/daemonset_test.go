package admission

import (
	"strings"
	"testing"

	upstreamappsv1 "k8s.io/api/apps/v1"
)

func TestTemplateGeneration(t *testing.T) {
	const first = `{"apiVersion":"core.keelson.dev/v1","kind":"DaemonSet","metadata":{"name":"a","annotations":{"x":"y","deprecated.daemonset.template.generation":"3"}},"spec":{"template":{"spec":{"nodeName":"n"}}}}`
	plain := strings.Replace(first, `,"deprecated.daemonset.template.generation":"3"`, "", 1)
	for what, tc := range map[string]struct{ user, old, want string }{
		"a new one begins with 1":                   {plain, "", "1"},
		"a new one may ask for more":                {first, "", "3"},
		"not for less than 1":                       {strings.Replace(first, `"3"`, `"-3"`, 1), "", "1"},
		"another template is the next":              {strings.Replace(first, `"n"`, `"m"`, 1), first, "4"},
		"another strategy is not":                   {strings.Replace(first, `"spec":{"t`, `"spec":{"minReadySeconds":1,"t`, 1), first, "3"},
		"an update cannot set it":                   {strings.Replace(first, `"3"`, `"9"`, 1), first, "3"},
		"an update that leaves it out keeps it":     {plain, first, "3"},
		"one that was stored without it begins now": {strings.Replace(plain, `"n"`, `"m"`, 1), plain, "1"},
	} {
		c := change{user: []byte(tc.user), answer: []byte(tc.user)}
		if tc.old != "" {
			c.old = []byte(tc.old)
		}
		result, err := reviewDaemonSet(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		want, err := desired(c.user, result)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := decodeTree(want)
		if err != nil {
			t.Fatal(err)
		}
		annotations := stored.child("metadata").child("annotations")
		if got := annotations.text(upstreamappsv1.DeprecatedTemplateGeneration); got != tc.want || annotations.text("x") != "y" {
			t.Errorf("%s: generation %q, want %q; annotations %v", what, got, tc.want, annotations)
		}
	}
}
