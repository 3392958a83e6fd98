package admission

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// podPolicy is what is judged about a Pod by other objects. Any function may be nil.
type podPolicy struct {
	// admit completes and judges a new Pod; a refusal is apierrors.IsForbidden.
	admit func(ctx context.Context, pod *keelsonv1.Pod) error
	// readmit judges an update.
	readmit func(ctx context.Context, pod, old *keelsonv1.Pod) error
	// warn is what the person who writes a Pod or a template gets to hear.
	warn func(ctx context.Context, namespace string, template *corev1.PodTemplateSpec) []string
	// nodes are what a resize may not exceed; nil does not look.
	nodes client.Reader
}

// complete gives a new Pod what its Namespace says. The status is a refusal.
func (p podPolicy) complete(ctx context.Context, pod *keelsonv1.Pod) (*metav1.Status, error) {
	return asRefusal(p.admit(ctx, pod))
}

// recheck judges an update by what its Namespace says.
func (p podPolicy) recheck(ctx context.Context, pod, old *keelsonv1.Pod) (*metav1.Status, error) {
	if p.readmit == nil {
		return nil, nil //nolint:nilnil // nothing to say
	}
	return asRefusal(p.readmit(ctx, pod, old))
}

func (p podPolicy) warnings(ctx context.Context, namespace string, template *corev1.PodTemplateSpec) []string {
	if p.warn == nil {
		return nil
	}
	return p.warn(ctx, namespace, template)
}

func asRefusal(err error) (*metav1.Status, error) {
	var status apierrors.APIStatus
	if apierrors.IsForbidden(err) && errors.As(err, &status) {
		return new(status.Status()), nil
	}
	return nil, err
}
