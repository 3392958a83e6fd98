package statefulset

import (
	"fmt"

	upstreamappsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// defaultHistoryLimit is spec.revisionHistoryLimit where admission did not write it.
const defaultHistoryLimit = 10

// settings are what a spec says, with the defaults that admission would have written.
type settings struct {
	name string
	// start is the first number, replicas how many there should be.
	start, replicas int
	parallel        bool
	minReadySeconds int32
	// rolling says that Pods of an old revision are replaced; partition is how many of
	// the lowest numbers stay at the current revision; maxUnavailable is how many may be
	// unavailable for an update, at least 1.
	rolling                   bool
	partition, maxUnavailable int
	historyLimit              int
}

// settingsOf reads the spec of set; its error says what admission would have refused.
func settingsOf(set *appsv1.StatefulSet) (settings, error) {
	spec := &set.Spec
	s := settings{
		name: set.Name, replicas: 1, maxUnavailable: 1, historyLimit: defaultHistoryLimit,
		parallel:        spec.PodManagementPolicy == upstreamappsv1.ParallelPodManagement,
		minReadySeconds: spec.MinReadySeconds,
	}
	if spec.Replicas != nil {
		s.replicas = int(*spec.Replicas)
	}
	if spec.Ordinals != nil {
		s.start = int(spec.Ordinals.Start)
	}
	if spec.RevisionHistoryLimit != nil {
		s.historyLimit = int(*spec.RevisionHistoryLimit)
	}
	switch spec.UpdateStrategy.Type {
	case upstreamappsv1.OnDeleteStatefulSetStrategyType:
	case upstreamappsv1.RollingUpdateStatefulSetStrategyType, "":
		s.rolling = true
	default:
		return s, fmt.Errorf("spec.updateStrategy.type: unsupported value: %q", spec.UpdateStrategy.Type)
	}
	rolling := spec.UpdateStrategy.RollingUpdate
	if rolling == nil {
		return s, nil
	}
	if rolling.Partition != nil {
		s.partition = int(*rolling.Partition)
	}
	if rolling.MaxUnavailable != nil {
		n, err := intstr.GetScaledValueFromIntOrPercent(rolling.MaxUnavailable, s.replicas, false)
		if err != nil {
			return s, fmt.Errorf("spec.updateStrategy.rollingUpdate.maxUnavailable: %w", err)
		}
		// A small percentage of few Pods rounds to none, and would never update.
		s.maxUnavailable = max(1, n)
	}
	return s, nil
}
