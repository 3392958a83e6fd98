package deployment

import (
	"strconv"
	"strings"

	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// Annotations are upstream's: `kubectl rollout history` and `undo` read them.
const (
	// annotationRevision counts the templates of a Deployment; it is on the Deployment
	// and on each ReplicaSet.
	annotationRevision = "deployment.kubernetes.io/revision"
	// annotationHistory lists the revisions that a ReplicaSet had before it was rolled
	// back to.
	annotationHistory = "deployment.kubernetes.io/revision-history"
	// annotationDesired and annotationMax are spec.replicas, and that with the surge,
	// when the ReplicaSet was scaled last.
	annotationDesired = "deployment.kubernetes.io/desired-replicas"
	annotationMax     = "deployment.kubernetes.io/max-replicas"

	hashLabel = upstreamappsv1.DefaultDeploymentUniqueLabelKey

	// maxHistory bounds annotationHistory, in characters.
	maxHistory = 2000
)

// ownAnnotations are not handed from a Deployment to its ReplicaSets.
var ownAnnotations = map[string]bool{
	corev1.LastAppliedConfigAnnotation:  true,
	annotationRevision:                  true,
	annotationHistory:                   true,
	annotationDesired:                   true,
	annotationMax:                       true,
	upstreamappsv1.DeprecatedRollbackTo: true,
}

// revisionOf is 0 where there is none, or none that can be read.
func revisionOf(rs *appsv1.ReplicaSet) int64 {
	n, err := strconv.ParseInt(rs.Annotations[annotationRevision], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// annotateCurrent gives the current set the annotations of its Deployment and a revision
// greater than that of all others.
func annotateCurrent(d *appsv1.Deployment, current *set, old []*set) {
	for key, value := range d.Annotations {
		if !ownAnnotations[key] {
			current.annotate(key, value)
		}
	}
	var highest int64
	for _, s := range old {
		highest = max(highest, revisionOf(s.want))
	}
	before, had := current.want.Annotations[annotationRevision]
	n, err := strconv.ParseInt(before, 10, 64)
	if had && before != "" && err != nil {
		// Somebody else's revision: leave it to them, as upstream does.
		return
	}
	if n > highest {
		return
	}
	current.annotate(annotationRevision, strconv.FormatInt(highest+1, 10))
	if had {
		current.annotate(annotationHistory, appendHistory(current.want.Annotations[annotationHistory], before))
	}
}

// appendHistory forgets the oldest revisions where the list becomes too long.
func appendHistory(history, revision string) string {
	if history == "" {
		return revision
	}
	history += "," + revision
	for len(history) > maxHistory {
		_, rest, more := strings.Cut(history, ",")
		if !more {
			return revision
		}
		history = rest
	}
	return history
}
