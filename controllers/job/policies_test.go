package job

import (
	"testing"
	"time"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

func exited(name string, code int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}
}

func onExit(action upstreambatchv1.PodFailurePolicyAction, operator upstreambatchv1.PodFailurePolicyOnExitCodesOperator, container *string, codes ...int32) upstreambatchv1.PodFailurePolicyRule {
	return upstreambatchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &upstreambatchv1.PodFailurePolicyOnExitCodesRequirement{
		ContainerName: container, Operator: operator, Values: codes,
	}}
}

func onDisruption(action upstreambatchv1.PodFailurePolicyAction) upstreambatchv1.PodFailurePolicyRule {
	return upstreambatchv1.PodFailurePolicyRule{Action: action, OnPodConditions: []upstreambatchv1.PodFailurePolicyOnPodConditionsPattern{
		{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
	}}
}

func TestJudgeFailure(t *testing.T) {
	const in, notIn = upstreambatchv1.PodFailurePolicyOnExitCodesOpIn, upstreambatchv1.PodFailurePolicyOnExitCodesOpNotIn
	const failJob, ignore, failIndex, counts = upstreambatchv1.PodFailurePolicyActionFailJob, upstreambatchv1.PodFailurePolicyActionIgnore,
		upstreambatchv1.PodFailurePolicyActionFailIndex, upstreambatchv1.PodFailurePolicyActionCount
	pod := func(statuses ...corev1.ContainerStatus) *keelsonv1.Pod {
		p := builders.MakePod("p").Namespace("ns").Phase(corev1.PodFailed).Obj()
		p.Status.ContainerStatuses = statuses
		return p
	}
	disrupted := pod(exited("main", 137))
	disrupted.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
	initFailed := pod()
	initFailed.Status.InitContainerStatuses = []corev1.ContainerStatus{exited("prepare", 5)}

	for name, tc := range map[string]struct {
		rules      []upstreambatchv1.PodFailurePolicyRule
		pod        *keelsonv1.Pod
		want       upstreambatchv1.PodFailurePolicyAction
		wantJob    string
		wantCounts bool
	}{
		"no rule matches": {[]upstreambatchv1.PodFailurePolicyRule{onExit(failJob, in, nil, 2)}, pod(exited("main", 1)), "", "", true},
		"an exit code fails the Job": {
			[]upstreambatchv1.PodFailurePolicyRule{onExit(failJob, in, nil, 1, 2)}, pod(exited("main", 2)), failJob,
			"Container main for pod ns/p failed with exit code 2 matching FailJob rule at index 0", true,
		},
		"the first rule decides": {
			[]upstreambatchv1.PodFailurePolicyRule{onExit(counts, in, nil, 2), onExit(failJob, in, nil, 2)}, pod(exited("main", 2)), counts, "", true,
		},
		"another container":           {[]upstreambatchv1.PodFailurePolicyRule{onExit(failJob, in, new("other"), 2)}, pod(exited("main", 2)), "", "", true},
		"a code that is not listed":   {[]upstreambatchv1.PodFailurePolicyRule{onExit(failIndex, notIn, nil, 2)}, pod(exited("main", 3)), failIndex, "", true},
		"success is never a failure":  {[]upstreambatchv1.PodFailurePolicyRule{onExit(failJob, notIn, nil, 2)}, pod(exited("main", 0)), "", "", true},
		"a container that still runs": {[]upstreambatchv1.PodFailurePolicyRule{onExit(failJob, notIn, nil, 2)}, pod(corev1.ContainerStatus{Name: "main"}), "", "", true},
		"a disruption is ignored":     {[]upstreambatchv1.PodFailurePolicyRule{onDisruption(ignore)}, disrupted, ignore, "", false},
		"a disruption fails the Job": {
			[]upstreambatchv1.PodFailurePolicyRule{onExit(ignore, in, nil, 1), onDisruption(failJob)}, disrupted, failJob,
			"Pod ns/p has condition DisruptionTarget matching FailJob rule at index 1", true,
		},
		"an init container": {
			[]upstreambatchv1.PodFailurePolicyRule{onExit(failJob, in, new("prepare"), 5)}, initFailed, failJob,
			"Container prepare for pod ns/p failed with exit code 5 matching FailJob rule at index 0", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := judgeFailure(&upstreambatchv1.PodFailurePolicy{Rules: tc.rules}, tc.pod)
			if got.action != tc.want || got.failsJob != tc.wantJob || got.counts() != tc.wantCounts {
				t.Errorf("got %+v, counts %v", got, got.counts())
			}
		})
	}
	if got := judgeFailure(nil, disrupted); !got.counts() || got.action != "" {
		t.Errorf("without a policy: %+v", got)
	}
}

func TestMatchSuccess(t *testing.T) {
	rule := func(indexes *string, count *int32) upstreambatchv1.SuccessPolicyRule {
		return upstreambatchv1.SuccessPolicyRule{SucceededIndexes: indexes, SucceededCount: count}
	}
	for name, tc := range map[string]struct {
		rules     []upstreambatchv1.SuccessPolicyRule
		succeeded string
		want      string
	}{
		"nothing has succeeded":          {[]upstreambatchv1.SuccessPolicyRule{rule(nil, new(int32(0)))}, "", ""},
		"enough have":                    {[]upstreambatchv1.SuccessPolicyRule{rule(nil, new(int32(2)))}, "1,7", "Matched rules at index 0"},
		"not enough":                     {[]upstreambatchv1.SuccessPolicyRule{rule(nil, new(int32(3)))}, "1,7", ""},
		"all that matter":                {[]upstreambatchv1.SuccessPolicyRule{rule(new("1,7"), nil)}, "0-7", "Matched rules at index 0"},
		"one that matters is missing":    {[]upstreambatchv1.SuccessPolicyRule{rule(new("1,8"), nil)}, "0-7", ""},
		"enough of those that matter":    {[]upstreambatchv1.SuccessPolicyRule{rule(new("1,3,8-9"), new(int32(2)))}, "0-7", "Matched rules at index 0"},
		"the second rule":                {[]upstreambatchv1.SuccessPolicyRule{rule(new("9"), nil), rule(new("0"), nil)}, "0", "Matched rules at index 1"},
		"indexes that the Job lost":      {[]upstreambatchv1.SuccessPolicyRule{rule(new("50"), nil)}, "0", ""},
		"more of others do not count in": {[]upstreambatchv1.SuccessPolicyRule{rule(new("8,9"), new(int32(1)))}, "0-7", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := matchSuccess(&upstreambatchv1.SuccessPolicy{Rules: tc.rules}, 10, parseIndexes(tc.succeeded, 10)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestStreak(t *testing.T) {
	start := time.Unix(10000, 0)
	ended := func(after int) *keelsonv1.Pod {
		p := builders.MakePod("p").Obj()
		s := exited("main", 1)
		s.State.Terminated.FinishedAt.Time = start.Add(time.Duration(after) * time.Second)
		p.Status.ContainerStatuses = []corev1.ContainerStatus{s}
		return p
	}
	pods := func(after ...int) (all []*keelsonv1.Pod) {
		for _, a := range after {
			all = append(all, ended(a))
		}
		return all
	}
	for name, tc := range map[string]struct {
		before            streak
		succeeded, failed []*keelsonv1.Pod
		// at is when it is asked, in seconds.
		at   int
		want time.Duration
	}{
		"no failure":                        {at: 1},
		"one":                               {failed: pods(0), at: 1, want: 9 * time.Second},
		"it is over":                        {failed: pods(0), at: 10},
		"the second doubles":                {before: streak{1, start}, failed: pods(5), at: 5, want: 20 * time.Second},
		"two at once, the later one counts": {failed: pods(3, 1), at: 3, want: 20 * time.Second},
		"never longer than ten minutes":     {before: streak{40, start}, at: 0, want: 10 * time.Minute},
		"a success starts again":            {before: streak{40, start}, succeeded: pods(1), at: 1},
		"a failure after the success":       {before: streak{40, start}, succeeded: pods(1), failed: pods(0, 2), at: 2, want: 10 * time.Second},
		"nothing new":                       {before: streak{2, start}, at: 0, want: 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.before.after(tc.succeeded, tc.failed).wait(start.Add(time.Duration(tc.at) * time.Second)); got != tc.want {
				t.Errorf("wait %s, want %s", got, tc.want)
			}
		})
	}
}
