package deployment

import (
	"errors"
	"fmt"
	"math"
	"time"

	upstreamappsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// Upstream's defaults: admission writes them, but not everywhere.
const (
	defaultReplicas     = 1
	defaultBound        = "25%"
	defaultHistoryLimit = 10
	defaultDeadline     = 600
)

// settings is the spec of a Deployment with every default and every percentage resolved.
type settings struct {
	selector labels.Selector
	replicas int32
	// maxSurge and maxUnavailable are 0 for Recreate.
	maxSurge, maxUnavailable int32
	recreate, paused         bool
	minReadySeconds          int32
	// historyLimit is how many old ReplicaSets are kept; negative means all.
	historyLimit int
	// deadline is how long a rollout may make no progress; 0 means for ever.
	deadline time.Duration
}

// maxReplicas is how many Pods there may be during a rollout.
func (s *settings) maxReplicas() int32 { return s.replicas + s.maxSurge }

// minAvailable is how many Pods must stay available during a rollout.
func (s *settings) minAvailable() int32 { return s.replicas - s.maxUnavailable }

// settingsOf reads d. An error names the field that cannot be served; upstream refuses
// such objects at admission.
func settingsOf(d *appsv1.Deployment) (settings, error) {
	s := settings{
		replicas:        valueOr(d.Spec.Replicas, defaultReplicas),
		paused:          d.Spec.Paused,
		minReadySeconds: d.Spec.MinReadySeconds,
		historyLimit:    int(valueOr(d.Spec.RevisionHistoryLimit, defaultHistoryLimit)),
	}
	if s.historyLimit == math.MaxInt32 {
		s.historyLimit = -1
	}
	if seconds := valueOr(d.Spec.ProgressDeadlineSeconds, defaultDeadline); seconds != math.MaxInt32 {
		s.deadline = time.Duration(seconds) * time.Second
	}
	if d.Spec.Selector == nil {
		return s, errors.New("spec.selector is missing: say by which labels the Pods are found")
	}
	var err error
	if s.selector, err = metav1.LabelSelectorAsSelector(d.Spec.Selector); err != nil {
		return s, fmt.Errorf("spec.selector cannot be used: %w", err)
	}
	if s.selector.Empty() {
		return s, errSelectingAll
	}
	if !s.selector.Matches(labels.Set(d.Spec.Template.Labels)) {
		return s, fmt.Errorf("spec.template.metadata.labels %q do not match spec.selector %q: every new ReplicaSet would be lost at once",
			labels.Set(d.Spec.Template.Labels), s.selector)
	}
	return s, s.readStrategy(&d.Spec.Strategy)
}

func (s *settings) readStrategy(strategy *upstreamappsv1.DeploymentStrategy) error {
	switch strategy.Type {
	case upstreamappsv1.RecreateDeploymentStrategyType:
		s.recreate = true
		return nil
	case upstreamappsv1.RollingUpdateDeploymentStrategyType, "":
	default:
		return fmt.Errorf("spec.strategy.type %q is neither RollingUpdate nor Recreate", strategy.Type)
	}
	bounds := upstreamappsv1.RollingUpdateDeployment{}
	if strategy.RollingUpdate != nil {
		bounds = *strategy.RollingUpdate
	}
	surge, err := resolve(bounds.MaxSurge, s.replicas, true)
	if err != nil {
		return fmt.Errorf("spec.strategy.rollingUpdate.maxSurge: %w", err)
	}
	unavailable, err := resolve(bounds.MaxUnavailable, s.replicas, false)
	if err != nil {
		return fmt.Errorf("spec.strategy.rollingUpdate.maxUnavailable: %w", err)
	}
	if surge == 0 && unavailable == 0 {
		// Nothing could ever move. Surge might not work due to quota.
		unavailable = 1
	}
	s.maxSurge, s.maxUnavailable = surge, min(unavailable, s.replicas)
	return nil
}

// resolve turns a percentage of replicas into a number.
func resolve(bound *intstr.IntOrString, replicas int32, up bool) (int32, error) {
	value := intstr.ValueOrDefault(bound, intstr.FromString(defaultBound))
	n, err := intstr.GetScaledValueFromIntOrPercent(value, int(replicas), up)
	if err != nil {
		return 0, err
	}
	if n < 0 {
		return 0, fmt.Errorf("%s is negative", value.String())
	}
	return int32(n), nil
}

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
