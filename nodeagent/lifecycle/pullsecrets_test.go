package lifecycle

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestPullCredentials(t *testing.T) {
	onMachine(t, func(m *machine) {
		config := filepath.Join(m.manager.RootDir, registryFile)
		if err := os.WriteFile(config, []byte(`{"auths":{"reg.example/team":{"username":"node","password":"n"}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		m.objects.set(func(o *fakeObjects) {
			o.secrets = map[string]*corev1.Secret{
				"good": {ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "good", UID: "7"}, Type: corev1.SecretTypeDockercfg, Data: map[string][]byte{".dockercfg": []byte(`{"reg.example":{"username":"pod","password":"p"}}`)}},
				"odd":  {Type: corev1.SecretTypeOpaque},
			}
		})
		pod := makePod("web", "main")
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "none"}, {Name: "good"}, {Name: "odd"}, {}}

		lookup := m.manager.pullCredentials(t.Context(), pod)
		if got := m.events.all(); len(got) > 0 {
			t.Errorf("Secrets were read before an image had to be pulled: %v", got)
		}
		want := []runtime.Credential{{Username: "pod", Password: "p", Secret: &runtime.SecretRef{UID: "7", Namespace: "default", Name: "good"}}, {Username: "node", Password: "n"}}
		for range 2 {
			if diff := cmp.Diff(want, lookup("reg.example/team/app")); diff != "" {
				t.Errorf("credentials (-want +got):\n%s", diff)
			}
		}
		wantEvents := []string{"Warning  FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets (none, odd); attempting to pull the image may not succeed."}
		if diff := cmp.Diff(wantEvents, m.events.all()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}
