package daemonset

import (
	"fmt"

	upstreamappsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// hashLabel tells of which template a Pod is.
const hashLabel = upstreamappsv1.DefaultDaemonSetUniqueLabelKey

// problem is why a DaemonSet cannot be served. Admission refuses such objects; they
// come from before it ran, or past it.
type problem struct{ reason, message string }

// selectorOf returns the selector of ds, or what is wrong with it: with one that the
// template does not match, Pods would be made and let go without end.
func selectorOf(ds *appsv1.DaemonSet) (labels.Selector, *problem) {
	if isEmpty(ds.Spec.Selector) {
		return nil, &problem{reasonSelectingAll, "This daemon set is selecting all pods. A non-empty selector is required."}
	}
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return nil, &problem{reasonInvalid, fmt.Sprintf("spec.selector: %v", err)}
	}
	if !selector.Matches(labels.Set(ds.Spec.Template.Labels)) {
		return nil, &problem{reasonInvalid, "spec.template.metadata.labels: `selector` does not match template `labels`"}
	}
	if _, err := limitsOf(&ds.Spec, 1); err != nil {
		return nil, &problem{reasonInvalid, err.Error()}
	}
	return selector, nil
}
