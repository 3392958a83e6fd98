package deployment

import (
	"fmt"
	"slices"
	"time"

	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

// Reasons of the conditions; they are upstream's, but for the last.
const (
	reasonAvailable   = "MinimumReplicasAvailable"
	reasonUnavailable = "MinimumReplicasUnavailable"

	reasonSetUpdated  = "ReplicaSetUpdated"
	reasonSetCreated  = "NewReplicaSetCreated"
	reasonSetFound    = "FoundNewReplicaSet"
	reasonSetComplete = "NewReplicaSetAvailable"
	reasonTimedOut    = "ProgressDeadlineExceeded"
	reasonPaused      = "DeploymentPaused"
	reasonResumed     = "DeploymentResumed"

	// reasonInvalid is the reason of ReplicaFailure when the spec itself is the cause.
	reasonInvalid = "InvalidSpec"
)

const (
	isAvailable    = upstreamappsv1.DeploymentAvailable
	progressing    = upstreamappsv1.DeploymentProgressing
	replicaFailure = upstreamappsv1.DeploymentReplicaFailure
)

// statusInput is everything that a status depends on.
type statusInput struct {
	// deployment is the object that was read, its status included.
	deployment *appsv1.Deployment
	spec       *settings
	// plan is the step that was taken; its sets are those after it.
	plan *plan
	// created says that the step made the current set.
	created bool
	// failure is why the current set could not be made.
	failure error
	now     time.Time
}

// count sums up what the sets report.
func count(p *plan) upstreamappsv1.DeploymentStatus {
	var status upstreamappsv1.DeploymentStatus
	var wanted, terminating int32
	known := true
	for _, s := range p.all() {
		of := &s.want.Status
		wanted += s.size()
		status.Replicas += of.Replicas
		status.ReadyReplicas += of.ReadyReplicas
		status.AvailableReplicas += of.AvailableReplicas
		terminating += valueOr(of.TerminatingReplicas, 0)
		// A set that its controller has not seen yet has no Pods.
		known = known && (of.TerminatingReplicas != nil || of.ObservedGeneration == 0)
	}
	if known {
		status.TerminatingReplicas = new(terminating)
	}
	if p.current != nil {
		status.UpdatedReplicas = p.current.want.Status.Replicas
	}
	status.UnavailableReplicas = max(0, wanted-status.AvailableReplicas)
	return status
}

// isComplete: every wanted Pod is of the current template and available, and no other is
// left.
func isComplete(spec *settings, status upstreamappsv1.DeploymentStatus) bool {
	return status.UpdatedReplicas == spec.replicas && status.Replicas == spec.replicas && status.AvailableReplicas == spec.replicas
}

// hasProgressed compares what was reported with what is now.
func hasProgressed(before, after *upstreamappsv1.DeploymentStatus) bool {
	return after.UpdatedReplicas > before.UpdatedReplicas ||
		after.Replicas-after.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		after.ReadyReplicas > before.ReadyReplicas ||
		after.AvailableReplicas > before.AvailableReplicas
}

// computeStatus returns the status after a step, columns included.
func computeStatus(in statusInput) appsv1.DeploymentStatus {
	d := in.deployment
	status := count(in.plan)
	status.ObservedGeneration = d.Generation
	status.CollisionCount = d.Status.CollisionCount
	c := conditions{list: slices.Clone(d.Status.Conditions), now: in.now}
	if d.DeletionTimestamp == nil {
		setPaused(&c, in)
		setNewSet(&c, in)
	}
	if status.AvailableReplicas >= in.spec.minAvailable() {
		c.set(isAvailable, corev1.ConditionTrue, reasonAvailable, "Deployment has minimum availability.")
	} else {
		c.set(isAvailable, corev1.ConditionFalse, reasonUnavailable, "Deployment does not have minimum availability.")
	}
	if in.plan.estimate {
		setProgress(&c, in, &status)
		setReplicaFailure(&c, in)
	}
	status.Conditions = c.list
	return withSummary(d, status)
}

// invalidStatus is the status of a Deployment whose spec cannot be served.
func invalidStatus(d *appsv1.Deployment, invalid error, now time.Time) appsv1.DeploymentStatus {
	status := *d.Status.DeploymentStatus.DeepCopy()
	c := conditions{list: status.Conditions, now: now}
	if status.ObservedGeneration != d.Generation {
		c.remove(replicaFailure)
	}
	c.set(replicaFailure, corev1.ConditionTrue, reasonInvalid, invalid.Error())
	status.ObservedGeneration = d.Generation
	status.Conditions = c.list
	return withSummary(d, status)
}

func withSummary(d *appsv1.Deployment, status upstreamappsv1.DeploymentStatus) appsv1.DeploymentStatus {
	after := &appsv1.Deployment{ObjectMeta: d.ObjectMeta, Spec: d.Spec, Status: appsv1.DeploymentStatus{DeploymentStatus: status}}
	after.Status.Summary = summary.Deployment(after)
	return after.Status
}

// setPaused starts the clock of a rollout anew when it is resumed. That the deadline was
// missed before stays.
func setPaused(c *conditions, in statusInput) {
	had := c.get(progressing)
	if in.spec.deadline == 0 || (had != nil && had.Reason == reasonTimedOut) {
		return
	}
	wasPaused := had != nil && had.Reason == reasonPaused
	switch {
	case in.spec.paused && !wasPaused:
		c.set(progressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case !in.spec.paused && wasPaused:
		c.set(progressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed")
	}
}

func setNewSet(c *conditions, in statusInput) {
	current := in.plan.current
	switch {
	case in.spec.deadline == 0 || current == nil:
	case in.failure != nil:
		c.set(progressing, corev1.ConditionFalse, reasonSetCreateError, createFailedMessage(current.want.Name, in.failure))
	case in.created:
		c.set(progressing, corev1.ConditionTrue, reasonSetCreated, fmt.Sprintf("Created new replica set %q", current.want.Name))
	case c.get(progressing) == nil:
		c.set(progressing, corev1.ConditionTrue, reasonSetFound, fmt.Sprintf("Found new replica set %q", current.want.Name))
	}
}

// setProgress judges the rollout, unless the last one is complete: Pods that come and go
// later are no rollout.
func setProgress(c *conditions, in statusInput, status *upstreamappsv1.DeploymentStatus) {
	if in.spec.deadline == 0 {
		c.remove(progressing)
		return
	}
	had := c.get(progressing)
	if in.failure != nil || (had != nil && had.Reason == reasonSetComplete && status.Replicas == status.UpdatedReplicas) {
		return
	}
	subject := fmt.Sprintf("Deployment %q", in.deployment.Name)
	if in.plan.current != nil {
		subject = fmt.Sprintf("ReplicaSet %q", in.plan.current.want.Name)
	}
	switch {
	case isComplete(in.spec, *status):
		c.set(progressing, corev1.ConditionTrue, reasonSetComplete, subject+" has successfully progressed.")
	case hasProgressed(&in.deployment.Status.DeploymentStatus, status):
		c.touch(progressing, corev1.ConditionTrue, reasonSetUpdated, subject+" is progressing.")
	case timedOut(had, in.spec.deadline, in.now):
		c.set(progressing, corev1.ConditionFalse, reasonTimedOut, subject+" has timed out progressing.")
	}
}

func timedOut(had *upstreamappsv1.DeploymentCondition, deadline time.Duration, now time.Time) bool {
	switch {
	case had == nil || had.Reason == reasonSetComplete:
		return false
	case had.Reason == reasonTimedOut:
		return true
	default:
		return had.LastUpdateTime.Add(deadline).Before(now)
	}
}

// nextCheck is when the deadline must be looked at again; 0 when it need not be.
func nextCheck(spec *settings, status *appsv1.DeploymentStatus, now time.Time) time.Duration {
	c := conditions{list: status.Conditions}
	had := c.get(progressing)
	if spec.deadline == 0 || spec.paused || had == nil || had.Reason == reasonTimedOut || isComplete(spec, status.DeploymentStatus) {
		return 0
	}
	// Times in the API are whole seconds.
	return max(0, had.LastUpdateTime.Add(spec.deadline).Sub(now)) + time.Second
}

// setReplicaFailure hands on the failure of the current set, else that of the oldest one
// that has one.
func setReplicaFailure(c *conditions, in statusInput) {
	sets := slices.Clone(in.plan.old)
	if in.plan.current != nil {
		sets = slices.Insert(sets, 0, in.plan.current)
	}
	for _, s := range sets {
		for i := range s.want.Status.Conditions {
			failure := &s.want.Status.Conditions[i]
			if failure.Type == upstreamappsv1.ReplicaSetReplicaFailure {
				c.put(upstreamappsv1.DeploymentCondition{
					Type: replicaFailure, Status: failure.Status, Reason: failure.Reason, Message: failure.Message,
					LastUpdateTime: failure.LastTransitionTime, LastTransitionTime: failure.LastTransitionTime,
				})
				return
			}
		}
	}
	c.remove(replicaFailure)
}

func sameStatus(a, b *appsv1.DeploymentStatus) bool { return equality.Semantic.DeepEqual(a, b) }

// conditions changes a list of conditions as upstream does: one that has the same status
// and reason stays as it is.
type conditions struct {
	list []upstreamappsv1.DeploymentCondition
	now  time.Time
}

func (c *conditions) get(t upstreamappsv1.DeploymentConditionType) *upstreamappsv1.DeploymentCondition {
	for i := range c.list {
		if c.list[i].Type == t {
			return new(c.list[i])
		}
	}
	return nil
}

func (c *conditions) remove(t upstreamappsv1.DeploymentConditionType) {
	c.list = slices.DeleteFunc(c.list, func(had upstreamappsv1.DeploymentCondition) bool { return had.Type == t })
}

func (c *conditions) set(t upstreamappsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	now := metav1.NewTime(c.now.Truncate(time.Second))
	c.put(upstreamappsv1.DeploymentCondition{
		Type: t, Status: status, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now,
	})
}

func (c *conditions) put(condition upstreamappsv1.DeploymentCondition) {
	had := c.get(condition.Type)
	if had != nil && had.Status == condition.Status {
		if had.Reason == condition.Reason {
			return
		}
		condition.LastTransitionTime = had.LastTransitionTime
	}
	c.remove(condition.Type)
	c.list = append(c.list, condition)
}

// touch is set, but that the time of the last update moves also when nothing else does:
// it is the time of the last progress.
func (c *conditions) touch(t upstreamappsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	had := c.get(t)
	c.remove(t)
	c.set(t, status, reason, message)
	if had != nil && had.Status == status {
		c.list[len(c.list)-1].LastTransitionTime = had.LastTransitionTime
	}
}
