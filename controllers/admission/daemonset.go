package admission

import (
	"context"
	"maps"
	"strconv"

	upstreamappsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/apis/support"
)

// reviewDaemonSet also counts the versions of the template in the annotation that
// upstream still keeps for clients of old.
func reviewDaemonSet(ctx context.Context, c change) (outcome, error) {
	result, err := specReview(support.CheckDaemonSet, checkDaemonSetUpdate)(ctx, c)
	if err != nil {
		return outcome{}, err
	}
	user, base, old, err := decodeAll[appsv1.DaemonSet](c)
	if err != nil {
		return outcome{}, err
	}
	annotations := maps.Clone(user.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[upstreamappsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(templateGeneration(base, old), 10)
	result.set["metadata"] = setMetadata(nil, annotations, nil)
	return result, nil
}

// templateGeneration is, as upstream's registry has it, what a new DaemonSet asks for and
// at least 1, and one more with each change of the template; an update cannot set it.
func templateGeneration(daemonSet, old *appsv1.DaemonSet) int64 {
	if old == nil {
		return max(1, generationIn(daemonSet.Annotations))
	}
	generation := generationIn(old.Annotations)
	if !equality.Semantic.DeepEqual(old.Spec.Template, daemonSet.Spec.Template) {
		generation++
	}
	return max(1, generation)
}

// generationIn is 0 without a number; upstream refuses what is none before this.
func generationIn(annotations map[string]string) int64 {
	generation, err := strconv.ParseInt(annotations[upstreamappsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return generation
}
