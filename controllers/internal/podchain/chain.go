// Package podchain runs upstream's admission plugins for Pods, those that depend on
// other objects than the Pod: ServiceAccount, LimitRanger and PodSecurity, and for Pods
// that the manager makes from a template also Priority and RuntimeClass, which the dry
// run does for Pods of people.
//
// The plugins are pure functions of controllers/internal/podadmission; this package
// reads what they need from a cache, and writes nothing. ResourceQuota is not among
// them: it is counted when the Pod is stored (controllers/admission).
package podchain

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/accounts"
	"github.com/keelson-dev/keelson/controllers/internal/podadmission"
)

// Chain completes and judges new Pods.
type Chain struct {
	// Cached may lag; Live does not.
	Cached, Live client.Reader
	// Accounts finds ServiceAccounts.
	Accounts accounts.Finder
	// Security are the Pod Security Standards.
	Security podadmission.Security
	// VolumeName makes the name of a token volume; nil: as upstream, with random letters.
	VolumeName func() string
}

// New returns a Chain. patient: wait a moment for the default account of a new
// Namespace, as for a person, who does not try again.
func New(cached, live client.Reader, patient bool) (Chain, error) {
	security, err := podadmission.NewSecurity()
	if err != nil {
		return Chain{}, err
	}
	return Chain{
		Cached: cached, Live: live, Security: security,
		Accounts: accounts.Finder{Cached: cached, Live: live, Patient: patient},
	}, nil
}

// Admit completes a Pod whose classes the dry run has resolved. A refusal is an
// apierrors.IsForbidden in upstream's words; any other error is a failure to find out.
func (c Chain) Admit(ctx context.Context, pod *keelsonv1.Pod) error {
	ranges, err := c.limitRanges(ctx, pod.Namespace)
	if err != nil {
		return err
	}
	if err := podadmission.Limits(pod, ranges); err != nil {
		return accounts.Forbidden(pod, err)
	}
	if err := c.applyAccount(ctx, pod); err != nil {
		return err
	}
	labels, err := c.namespaceLabels(ctx, pod.Namespace)
	if err != nil {
		return err
	}
	if err := c.Security.Enforce(labels, &pod.ObjectMeta, &pod.Spec); err != nil {
		return accounts.Forbidden(pod, err)
	}
	return nil
}

// AdmitFromTemplate does the same for a Pod that was made from a template and that no
// dry run has seen.
func (c Chain) AdmitFromTemplate(ctx context.Context, pod *keelsonv1.Pod) error {
	priority, err := c.priorityClass(ctx, pod)
	if err != nil {
		return err
	}
	if err := podadmission.Priority(pod, priority); err != nil {
		return accounts.Forbidden(pod, err)
	}
	runtime, err := c.runtimeClass(ctx, pod)
	if err != nil {
		return err
	}
	if err := podadmission.RuntimeClass(pod, runtime); err != nil {
		return accounts.Forbidden(pod, err)
	}
	return c.Admit(ctx, pod)
}

// Warnings are what Pod Security has to say to the person who writes a Pod or a
// template; a Namespace that cannot be read has none.
func (c Chain) Warnings(ctx context.Context, namespace string, template *corev1.PodTemplateSpec) []string {
	labels, err := c.namespaceLabels(ctx, namespace)
	if err != nil {
		return nil
	}
	return c.Security.Warnings(labels, &template.ObjectMeta, &template.Spec)
}

// Recheck judges an update of a Pod by the Pod Security Standards.
func (c Chain) Recheck(ctx context.Context, pod, old *keelsonv1.Pod) error {
	if !podadmission.SecurityChanges(&pod.Spec, &old.Spec) {
		return nil
	}
	labels, err := c.namespaceLabels(ctx, pod.Namespace)
	if err != nil {
		return err
	}
	if err := c.Security.Enforce(labels, &pod.ObjectMeta, &pod.Spec); err != nil {
		return accounts.Forbidden(pod, err)
	}
	return nil
}

func (c Chain) applyAccount(ctx context.Context, pod *keelsonv1.Pod) error {
	account, err := c.Accounts.Of(ctx, pod)
	if err != nil {
		return err
	}
	name := podadmission.TokenVolumePrefix + rand.String(5)
	if c.VolumeName != nil {
		name = c.VolumeName()
	}
	podadmission.Account(pod, account, name)
	if problem := podadmission.CheckAccount(&pod.Spec, account); problem != nil {
		return accounts.Forbidden(pod, problem)
	}
	return nil
}

// limitRanges are those of the Namespace, by name.
func (c Chain) limitRanges(ctx context.Context, namespace string) ([]*keelsonv1.LimitRange, error) {
	var list keelsonv1.LimitRangeList
	if err := c.Cached.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the LimitRanges: %w", err)
	}
	ranges := make([]*keelsonv1.LimitRange, 0, len(list.Items))
	for i := range list.Items {
		ranges = append(ranges, &list.Items[i])
	}
	slices.SortFunc(ranges, func(a, b *keelsonv1.LimitRange) int { return strings.Compare(a.Name, b.Name) })
	return ranges, nil
}

func (c Chain) namespaceLabels(ctx context.Context, name string) (map[string]string, error) {
	namespace := &corev1.Namespace{}
	err := c.Cached.Get(ctx, client.ObjectKey{Name: name}, namespace)
	if apierrors.IsNotFound(err) {
		err = c.Live.Get(ctx, client.ObjectKey{Name: name}, namespace)
	}
	if err != nil {
		return nil, fmt.Errorf("read the Namespace: %w", err)
	}
	return namespace.Labels, nil
}

func (c Chain) priorityClass(ctx context.Context, pod *keelsonv1.Pod) (*schedulingv1.PriorityClass, error) {
	name := pod.Spec.PriorityClassName
	if name == "" {
		var list schedulingv1.PriorityClassList
		if err := c.Cached.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list the PriorityClasses: %w", err)
		}
		all := make([]*schedulingv1.PriorityClass, 0, len(list.Items))
		for i := range list.Items {
			all = append(all, &list.Items[i])
		}
		return podadmission.DefaultPriority(all), nil
	}
	class := &schedulingv1.PriorityClass{}
	err := c.read(ctx, name, class)
	if apierrors.IsNotFound(err) {
		return nil, accounts.Forbidden(pod, fmt.Errorf("no PriorityClass with name %s was found", name))
	}
	return class, err
}

func (c Chain) runtimeClass(ctx context.Context, pod *keelsonv1.Pod) (*nodev1.RuntimeClass, error) {
	if pod.Spec.RuntimeClassName == nil {
		return nil, nil //nolint:nilnil // a Pod without a class
	}
	name := *pod.Spec.RuntimeClassName
	class := &nodev1.RuntimeClass{}
	err := c.read(ctx, name, class)
	if apierrors.IsNotFound(err) {
		return nil, accounts.Forbidden(pod, fmt.Errorf("pod rejected: RuntimeClass %q not found", name))
	}
	return class, err
}

// read looks past the cache before it says that something is not there.
func (c Chain) read(ctx context.Context, name string, into client.Object) error {
	err := c.Cached.Get(ctx, client.ObjectKey{Name: name}, into)
	if apierrors.IsNotFound(err) {
		return c.Live.Get(ctx, client.ObjectKey{Name: name}, into)
	}
	return err
}
