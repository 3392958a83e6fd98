package resources

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// evict deletes a Pod if its disruption budget allows: POST pods/NAME/eviction.
func (c *call) evict() error {
	format, err := c.codec.Negotiate(c.r, false)
	if err != nil {
		return err
	}
	eviction, err := c.readEviction()
	if err != nil {
		return err
	}
	if err := c.admitCreate(policyv1.SchemeGroupVersion.WithKind("Eviction"), "eviction", c.name, eviction); err != nil {
		return err
	}
	options, err := evictionOptions(eviction, c.r.URL.Query()["dryRun"])
	if err != nil {
		return err
	}
	if err := c.evictPod(options); err != nil {
		return err
	}
	return c.logWrite(c.codec.WriteObject(c.w, c.r, format, http.StatusCreated, &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}))
}

// readEviction reads the body, which may be of either version of the group policy.
func (c *call) readEviction() (*policyv1.Eviction, error) {
	body, err := codec.ReadBody(c.r)
	if err != nil {
		return nil, err
	}
	kind := policyv1.SchemeGroupVersion.WithKind("Eviction")
	tree, _, err := c.codec.DecodeObject(c.r.Header.Get("Content-Type"), body, kind)
	if err != nil {
		return nil, err
	}
	versions := []any{policyv1.SchemeGroupVersion.String(), policyv1beta1.SchemeGroupVersion.String()}
	if tree["kind"] != kind.Kind || !slices.Contains(versions, tree["apiVersion"]) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a Eviction object: %v, Kind=%v", tree["apiVersion"], tree["kind"]))
	}
	eviction := &policyv1.Eviction{}
	if err := decodeInto(tree, eviction); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if eviction.Name == "" {
		eviction.Name = c.name
	}
	if eviction.Name != c.name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	if eviction.Namespace != "" && eviction.Namespace != c.namespace {
		return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return eviction, nil
}

// evictionOptions joins the options in the eviction with the dry run in the query.
func evictionOptions(eviction *policyv1.Eviction, dryRun []string) (*metav1.DeleteOptions, error) {
	options := eviction.DeleteOptions.DeepCopy()
	if options == nil {
		return &metav1.DeleteOptions{DryRun: dryRun}, nil
	}
	if unsafe := options.IgnoreStoreReadErrorWithClusterBreakingPotential; unsafe != nil && *unsafe {
		return nil, apierrors.NewInvalid(policyv1.SchemeGroupVersion.WithKind("Eviction").GroupKind(), eviction.Name, field.ErrorList{
			field.Invalid(field.NewPath("deleteOptions", "ignoreStoreReadErrorWithClusterBreakingPotential"), true, "can not be set for pod eviction, try after removing the option")})
	}
	switch {
	case len(options.DryRun) == 0:
		options.DryRun = dryRun
	case len(dryRun) > 0 && !reflect.DeepEqual(dryRun, options.DryRun):
		return nil, fmt.Errorf("Non-matching dry-run options in request and content: %v and %v", dryRun, options.DryRun)
	}
	return options, nil
}

// evictPod repeats upstream's decision until nobody writes in between: a Pod that is
// down goes, one without a budget goes, one with one budget goes if that has a
// disruption to spend or does not count the Pod.
func (c *call) evictPod(options *metav1.DeleteOptions) error {
	own := options.Preconditions != nil && options.Preconditions.ResourceVersion != nil
	var spent bool
	var budget string
	err := retry(c.ctx, func() error {
		live, pod, err := c.fetchPod()
		if err != nil {
			return err
		}
		asRead := guardedAsRead(pod)
		if !ignoresBudgets(pod) && !spent {
			budget, asRead, err = c.spendBudget(pod, len(options.DryRun) > 0)
			if err != nil {
				return err
			}
			spent = !asRead // what was spent for this Pod is not spent again
		}
		if spent {
			asRead = false
		}
		err = c.markAndDelete(live, pod, options, asRead && !own)
		if own {
			return final(err)
		}
		return err
	})
	if apierrors.IsConflict(err) && !own && budget != "" {
		return budgetBusy(budget)
	}
	return err
}

func (c *call) fetchPod() (map[string]any, *corev1.Pod, error) {
	live, err := c.fetch(c.ctx, c.object())
	if err != nil {
		return nil, nil, err
	}
	pod := &corev1.Pod{}
	return live, pod, decodeInto(live, pod)
}

// markAndDelete writes the condition that says why the Pod goes, and deletes it. asRead:
// only in the version that was read.
func (c *call) markAndDelete(live map[string]any, pod *corev1.Pod, options *metav1.DeleteOptions, asRead bool) error {
	if err := checkPreconditions(pod, options.Preconditions); err != nil {
		return final(err)
	}
	options = options.DeepCopy()
	version := pod.ResourceVersion
	if len(options.DryRun) == 0 {
		marked, err := c.markDisrupted(live, pod)
		if err != nil {
			return err
		}
		version = resourceVersionOf(marked)
	}
	if options.Preconditions == nil {
		options.Preconditions = &metav1.Preconditions{}
	}
	if asRead || options.Preconditions.ResourceVersion != nil {
		options.Preconditions.ResourceVersion = &version
	}
	options.Preconditions.UID = &pod.UID
	_, _, err := c.deletePod(c.ctx, c.object(), options)
	return err
}

// markDisrupted sets the condition DisruptionTarget in the version that was read.
func (c *call) markDisrupted(live map[string]any, pod *corev1.Pod) (map[string]any, error) {
	status := pod.Status.DeepCopy()
	setPodCondition(status, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
		LastTransitionTime: metav1.NewTime(c.clock.Now()),
	})
	next := runtime.DeepCopyJSON(live)
	conditions, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&corev1.PodStatus{Conditions: status.Conditions})
	if err != nil {
		return nil, fmt.Errorf("encode the conditions: %w", err)
	}
	section, ok := next["status"].(map[string]any)
	if !ok {
		section = map[string]any{}
		next["status"] = section
	}
	section["conditions"] = conditions["conditions"]
	if err := summarize(c.row.Kind, next); err != nil {
		return nil, err
	}
	written, _, err := c.put(c.object().sub("status"), next)
	return written, err
}

func setPodCondition(status *corev1.PodStatus, condition corev1.PodCondition) {
	at := slices.IndexFunc(status.Conditions, func(c corev1.PodCondition) bool { return c.Type == condition.Type })
	if at < 0 {
		status.Conditions = append(status.Conditions, condition)
		return
	}
	if status.Conditions[at].Status == condition.Status {
		condition.LastTransitionTime = status.Conditions[at].LastTransitionTime
	}
	status.Conditions[at] = condition
}

// spendBudget takes a disruption from the Pod's budget. asRead: nothing was taken,
// because the Pod is not ready and there are enough others; it must still be so when
// it is deleted.
func (c *call) spendBudget(pod *corev1.Pod, dryRun bool) (budget string, asRead bool, err error) {
	all, err := c.listBudgets()
	if err != nil {
		return "", false, err
	}
	matching := budgetsOf(pod, all)
	switch len(matching) {
	case 0:
		return "", false, nil
	case 1:
	default:
		return "", false, &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
			Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
		}}
	}
	name := matching[0].Name
	if !isReady(pod) && sparesUnhealthy(&matching[0]) {
		return name, true, nil
	}
	return name, false, retry(c.ctx, func() error {
		current := &policyv1.PodDisruptionBudget{}
		live, _, err := c.askBudgets(asked{method: http.MethodGet}, name, "")
		if err != nil {
			return err
		}
		if err := decodeInto(live, current); err != nil {
			return err
		}
		if err := spend(current, pod.Name, c.clock.Now()); err != nil || dryRun {
			return err
		}
		return c.writeBudget(live, current)
	})
}

// writeBudget writes the status, under the version that was read.
func (c *call) writeBudget(live map[string]any, budget *policyv1.PodDisruptionBudget) error {
	status, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&budget.Status)
	if err != nil {
		return fmt.Errorf("encode the status of a PodDisruptionBudget: %w", err)
	}
	live["status"] = status
	raw, err := encodeTree(live)
	if err != nil {
		return err
	}
	_, _, err = c.askBudgets(asked{method: http.MethodPut, body: raw}, budget.Name, "status")
	return err
}

func (c *call) listBudgets() ([]policyv1.PodDisruptionBudget, error) {
	tree, _, err := c.askBudgets(asked{method: http.MethodGet}, "", "")
	if err != nil {
		return nil, err
	}
	var list policyv1.PodDisruptionBudgetList
	if err := decodeInto(tree, &list); err != nil {
		return nil, err
	}
	return list.Items, nil
}

// askBudgets asks under the gateway's own name: evicting is all that the caller has to
// be allowed.
func (c *call) askBudgets(a asked, name, subresource string) (map[string]any, int, error) {
	resource := policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets")
	row, ok := c.table.Upstream(resource)
	if !ok {
		row = table.Row{Upstream: resource, Stored: resource, Kind: "PodDisruptionBudget", Namespaced: true}
	}
	a.target = target{row: row, namespace: c.namespace, name: name, subresource: subresource}
	return c.ask(upstream.AsGateway(c.r.Context()), a)
}
