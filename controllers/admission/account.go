package admission

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/accounts"
	"github.com/keelson-dev/keelson/controllers/internal/podadmission"
)

// podPolicy is what is judged about a Pod by other objects.
type podPolicy struct {
	// account returns the ServiceAccount of a Pod, or a refusal of it.
	account func(ctx context.Context, pod *keelsonv1.Pod) (*corev1.ServiceAccount, error)
	// volumeName makes the name of a volume that Pods get.
	volumeName func() string
}

func newPodPolicy(f accounts.Finder) podPolicy {
	return podPolicy{account: f.Of, volumeName: func() string { return podadmission.TokenVolumePrefix + rand.String(5) }}
}

// complete gives a new Pod what its ServiceAccount says. The status is a refusal.
func (p podPolicy) complete(ctx context.Context, pod *keelsonv1.Pod) (*metav1.Status, error) {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return nil, nil // it must not differ from its manifest, and has no account
	}
	account, err := p.account(ctx, pod)
	if err == nil {
		podadmission.Account(pod, account, p.volumeName())
		if problem := podadmission.CheckAccount(&pod.Spec, account); problem != nil {
			err = accounts.Forbidden(pod, problem)
		}
	}
	var status apierrors.APIStatus
	if apierrors.IsForbidden(err) && errors.As(err, &status) {
		return new(status.Status()), nil
	}
	return nil, err
}
