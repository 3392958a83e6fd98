package replicas

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/accounts"
	"github.com/keelson-dev/keelson/controllers/internal/podadmission"
)

// anyAccount mounts no token.
func anyAccount(context.Context, *keelsonv1.Pod) (*corev1.ServiceAccount, error) {
	return &corev1.ServiceAccount{AutomountServiceAccountToken: new(false)}, nil
}

func TestPodsGetWhatTheirAccountSays(t *testing.T) {
	o := owner(1)
	r := newRig(t)
	r.engine.Account = func(_ context.Context, pod *keelsonv1.Pod) (*corev1.ServiceAccount, error) {
		if pod.Spec.ServiceAccountName != "default" {
			t.Errorf("asked for account %q", pod.Spec.ServiceAccountName)
		}
		return &corev1.ServiceAccount{}, nil
	}
	if err := r.engine.Scale(t.Context(), &o, &Plan{Create: 1}); err != nil {
		t.Fatal(err)
	}
	pods := &keelsonv1.PodList{}
	if err := r.store.List(t.Context(), pods); err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d Pods, %v", len(pods.Items), err)
	}
	spec := pods.Items[0].Spec
	if len(spec.Volumes) != 1 || !strings.HasPrefix(spec.Volumes[0].Name, podadmission.TokenVolumePrefix) ||
		len(spec.Containers[0].VolumeMounts) != 1 {
		t.Errorf("volumes %+v, mounts %+v: no token", spec.Volumes, spec.Containers[0].VolumeMounts)
	}
}

func TestAccountThatIsNotThereRefusesThePod(t *testing.T) {
	o := owner(1)
	r := newRig(t)
	r.engine.Account = func(_ context.Context, pod *keelsonv1.Pod) (*corev1.ServiceAccount, error) {
		return nil, accounts.Forbidden(pod, errors.New("no such account"))
	}
	if err := r.engine.Scale(t.Context(), &o, &Plan{Create: 1}); err == nil || !strings.Contains(err.Error(), "no such account") {
		t.Errorf("error %v", err)
	}
	if r.creates.Load() != 0 {
		t.Error("a Pod was created")
	}
	if r.eventsWith("no such account") != 1 {
		t.Error("no event says why")
	}
}
