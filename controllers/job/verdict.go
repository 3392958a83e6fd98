package job

import (
	"time"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/keelson-dev/keelson/controllers/internal/jobs"
)

// verdict is how a Job is going to end. Its type is SuccessCriteriaMet or FailureTarget
// when it is new or has been met, and Failed when status says FailureTarget already.
type verdict = upstreambatchv1.JobCondition

// judge decides whether the Job has to end, in upstream's order: what status has
// promised, what the Pod failure policy says, the limits, the success policy. wait is
// when an active deadline may change the answer; 0 for never.
func judge(s *snapshot, start *metav1.Time) (end *verdict, wait time.Duration) {
	if promised := judgePromised(s); promised != nil {
		return promised, 0
	}
	if message := s.policyFailure(); message != "" {
		return newCondition(upstreambatchv1.JobFailureTarget, upstreambatchv1.JobReasonPodFailurePolicy, message, s.now), 0
	}
	if s.failed > *s.job.Spec.BackoffLimit || s.pastRestartLimit() {
		return newCondition(upstreambatchv1.JobFailureTarget, upstreambatchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit", s.now), 0
	}
	if deadline := s.job.Spec.ActiveDeadlineSeconds; deadline != nil && start != nil && !s.suspended() {
		wait = time.Duration(*deadline)*time.Second - s.now.Sub(start.Time)
		if wait <= 0 {
			return newCondition(upstreambatchv1.JobFailureTarget, upstreambatchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline", s.now), 0
		}
	}
	if s.indexed() {
		return judgeIndexes(s), wait
	}
	return nil, wait
}

func judgePromised(s *snapshot) *verdict {
	conditions := s.job.Status.Conditions
	if jobs.IsTrue(conditions, upstreambatchv1.JobSuccessCriteriaMet) {
		return jobs.Condition(conditions, upstreambatchv1.JobSuccessCriteriaMet).DeepCopy()
	}
	if jobs.IsTrue(conditions, upstreambatchv1.JobFailureTarget) {
		return failed(jobs.Condition(conditions, upstreambatchv1.JobFailureTarget), s.now)
	}
	return nil
}

func judgeIndexes(s *snapshot) *verdict {
	if s.failedIndexes != nil {
		n := s.failedIndexes.total()
		if limit := s.job.Spec.MaxFailedIndexes; limit != nil && n > int(*limit) {
			return newCondition(upstreambatchv1.JobFailureTarget, upstreambatchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes", s.now)
		}
		if n > 0 && n+s.succeededIndexes.total() >= s.completions() {
			return newCondition(upstreambatchv1.JobFailureTarget, upstreambatchv1.JobReasonFailedIndexes, "Job has failed indexes", s.now)
		}
	}
	if message := matchSuccess(s.job.Spec.SuccessPolicy, s.completions(), s.succeededIndexes); message != "" {
		return newCondition(upstreambatchv1.JobSuccessCriteriaMet, upstreambatchv1.JobReasonSuccessPolicy, message, s.now)
	}
	return nil
}

// policyFailure says why the Pod failure policy fails the Job; "" when it does not.
func (s *snapshot) policyFailure() string {
	if s.job.Spec.PodFailurePolicy == nil {
		return ""
	}
	for _, pod := range s.pods {
		if !s.isFailed(pod) {
			continue
		}
		if f := judgeFailure(s.job.Spec.PodFailurePolicy, pod); f.failsJob != "" {
			return f.failsJob
		}
	}
	return ""
}

// pastRestartLimit counts restarts in place of Pods that have failed, where containers
// start again on the node.
func (s *snapshot) pastRestartLimit() bool {
	if s.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	restarts := int32(0)
	for _, pod := range s.pods {
		if pod.Status.Phase != corev1.PodRunning && pod.Status.Phase != corev1.PodPending {
			continue
		}
		for i := range pod.Status.InitContainerStatuses {
			restarts += pod.Status.InitContainerStatuses[i].RestartCount
		}
		for i := range pod.Status.ContainerStatuses {
			restarts += pod.Status.ContainerStatuses[i].RestartCount
		}
	}
	return restarts > 0 && restarts >= *s.job.Spec.BackoffLimit
}

// reachedCompletions says whether the Job is complete with active Pods left.
func reachedCompletions(s *snapshot, active int32) bool {
	if s.job.Spec.Completions == nil {
		// A work queue: its Pods know among themselves when the work is done.
		return s.succeeded > 0 && active == 0
	}
	return s.succeeded >= *s.job.Spec.Completions && active == 0
}

func newCondition(conditionType upstreambatchv1.JobConditionType, reason, message string, now time.Time) *upstreambatchv1.JobCondition {
	return &upstreambatchv1.JobCondition{
		Type:               conditionType,
		Status:             corev1.ConditionTrue,
		LastProbeTime:      *stamp(now),
		LastTransitionTime: *stamp(now),
		Reason:             reason,
		Message:            message,
	}
}

func failed(target *verdict, now time.Time) *verdict {
	return newCondition(upstreambatchv1.JobFailed, target.Reason, target.Message, now)
}

func isSuccess(v *verdict) bool {
	return v != nil && v.Type == upstreambatchv1.JobSuccessCriteriaMet
}
