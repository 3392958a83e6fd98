package staticpods

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const manifest = `apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers: [{name: main, image: "nginx:1"}]
`

func node1(place string) origin { return origin{source: SourceFile, place: place, node: "Node1"} }

func TestParse(t *testing.T) {
	second := strings.ReplaceAll(manifest, "web", "db")
	tests := map[string]struct {
		data string
		// want are the names of the Pods, wantErr a part of the error.
		want    []string
		wantErr string
	}{
		"one Pod":                      {data: manifest, want: []string{"default/web-node1"}},
		"Keelson's version":            {data: strings.Replace(manifest, ": v1", ": core.keelson.dev/v1", 1), want: []string{"default/web-node1"}},
		"several documents":            {data: manifest + "---\n# nothing\n---\n" + second, want: []string{"default/web-node1", "default/db-node1"}},
		"nothing":                      {data: "# nothing\n"},
		"JSON":                         {data: "\t" + `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"j"},"spec":{"containers":[{"name":"c","image":"i"}]}}`, want: []string{"default/j-node1"}},
		"a list of Pods":               {data: `{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"j"},"spec":{"containers":[{"name":"c","image":"i"}]}}]}`, want: []string{"default/j-node1"}},
		"a list with something else":   {data: "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Secret}]", wantErr: `items[0]: invalid pod: kind "Secret": only Pods can be static`},
		"another kind":                 {data: "apiVersion: apps/v1\nkind: Deployment\n", wantErr: `apiVersion "apps/v1", kind "Deployment": only Pods of version v1 can be static`},
		"no kind":                      {data: "metadata: {name: a}\n", wantErr: "apiVersion and kind are needed"},
		"no name":                      {data: "apiVersion: v1\nkind: Pod\n", wantErr: "invalid pod: name is needed for the pod"},
		"a second document without":    {data: manifest + "---\napiVersion: v1\nkind: Pod\n", wantErr: "document 2: invalid pod: name is needed"},
		"no YAML":                      {data: "a: b: c", wantErr: "couldn't parse as pod"},
		"an unknown field":             {data: strings.Replace(manifest, "image", "imgae", 1), wantErr: `unknown field "spec.containers[0].imgae"`},
		"a field that stands twice":    {data: manifest + "kind: Pod\n", wantErr: `key "kind" already set in map`},
		"a field of another type":      {data: strings.Replace(manifest, `"nginx:1"`, "7", 1), wantErr: "spec.containers.image of type string"},
		"a name that cannot be":        {data: strings.Replace(manifest, "web", "Web_1", 1), wantErr: "metadata.name: Invalid value: \"Web_1-node1\""},
		"no containers":                {data: "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", wantErr: "spec.containers: Required value"},
		"no image":                     {data: strings.Replace(manifest, `, image: "nginx:1"`, "", 1), wantErr: "spec.containers[0].image: Required value"},
		"a mount of no volume":         {data: strings.Replace(manifest, `:1"`, `:1", volumeMounts: [{name: v, mountPath: /v}]`, 1), wantErr: `spec.containers[0].volumeMounts[0].name: Not found: "v"`},
		"more requested than allowed":  {data: strings.Replace(manifest, `:1"`, `:1", resources: {limits: {cpu: 1}, requests: {cpu: 2}}`, 1), wantErr: "must be less than or equal to cpu limit of 1"},
		"a probe of two ways":          {data: strings.Replace(manifest, `:1"`, `:1", livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}`, 1), wantErr: "spec.containers[0].livenessProbe: Forbidden: may not specify more than 1 handler type"},
		"an unknown policy":            {data: manifest + "  restartPolicy: Sometimes\n", wantErr: `spec.restartPolicy: Unsupported value: "Sometimes"`},
		"a field not implemented":      {data: manifest + "  os: {name: windows}\n", wantErr: "spec.os.name"},
		"a UID":                        {data: strings.Replace(manifest, "name: web", "name: web, uid: x", 1), wantErr: "metadata.uid: Forbidden"},
		"a node":                       {data: manifest + "  nodeName: other\n", wantErr: "spec.nodeName: Forbidden"},
		"a ServiceAccount":             {data: manifest + "  serviceAccountName: robot\n", wantErr: "static pods may not reference serviceaccounts"},
		"its old name":                 {data: manifest + "  serviceAccount: robot\n", wantErr: "static pods may not reference serviceaccounts"},
		"a password for the registry":  {data: manifest + "  imagePullSecrets: [{name: s}]\n", wantErr: "static pods may not reference secrets"},
		"a variable from a ConfigMap":  {data: strings.Replace(manifest, `:1"`, `:1", env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: k}}}]`, 1), wantErr: "static pods may not reference configmaps"},
		"a volume of a Secret":         {data: manifest + "  volumes: [{name: v, secret: {secretName: s}}]\n", wantErr: "static pods may not reference secrets (via secret volumes)"},
		"a projected token":            {data: manifest + "  volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]\n", wantErr: "static pods may not reference serviceaccounts (via projected volumes)"},
		"a sysctl of the machine":      {data: manifest + "  hostNetwork: true\n  securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '0'}]}\n", wantErr: "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.tcp_syncookies\": may not be specified when 'hostNetwork' is true"},
		"what an API server has added": {data: strings.Replace(manifest, "name: web", "name: web, resourceVersion: '7', creationTimestamp: null", 1) + "status: {phase: Running}\n", want: []string{"default/web-node1"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pods, err := parse([]byte(tt.data), node1("/m/web.yaml"))
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, pod := range pods {
				got = append(got, pod.Namespace+"/"+pod.Name)
				if !IsStatic(pod) || pod.Spec.NodeName != "Node1" || pod.Annotations[HashAnnotation] != string(pod.UID) ||
					pod.Annotations[SourceAnnotation] != SourceFile || pod.Status.Phase != corev1.PodPending {
					t.Errorf("incomplete: %+v", pod)
				}
			}
			if strings.Join(got, " ") != strings.Join(tt.want, " ") {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestUIDFollowsFromManifestAndPlace(t *testing.T) {
	uid := func(data string, from origin) string {
		t.Helper()
		pods, err := parse([]byte(data), from)
		if err != nil {
			t.Fatal(err)
		}
		return string(pods[0].UID)
	}
	one := uid(manifest, node1("/m/a.yaml"))
	if again := uid(manifest, node1("/m/a.yaml")); again != one {
		t.Errorf("%s became %s", one, again)
	}
	if same := uid("# a comment\n"+manifest+"status: {phase: Failed}\n", node1("/m/a.yaml")); same != one {
		t.Errorf("what says nothing new made %s of %s", same, one)
	}
	others := map[string]string{
		"another image": uid(strings.Replace(manifest, ":1", ":2", 1), node1("/m/a.yaml")),
		"another file":  uid(manifest, node1("/m/b.yaml")),
		"another node":  uid(manifest, origin{source: SourceFile, place: "/m/a.yaml", node: "node2"}),
		"a URL":         uid(manifest, origin{source: SourceHTTP, place: "/m/a.yaml", node: "Node1"}),
	}
	for what, other := range others {
		if other == one {
			t.Errorf("%s gives the same UID", what)
		}
	}
}

func TestOnlyPodsOfFilesTolerateEverything(t *testing.T) {
	for source, want := range map[string]int{SourceFile: 1, SourceHTTP: 0} {
		pods, err := parse([]byte(manifest), origin{source: source, place: "p", node: "n"})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(pods[0].Spec.Tolerations); got != want {
			t.Errorf("%s: %d tolerations, want %d", source, got, want)
		}
	}
}
