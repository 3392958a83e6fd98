package admission

import (
	"fmt"
	"strings"
	"testing"
)

func batch(kind, name, spec string) string {
	return fmt.Sprintf("apiVersion: batch.keelson.dev/v1\nkind: %s\nmetadata:\n  name: %s\nspec:\n%s", kind, name, spec)
}

// The template's name is accepted, and means nothing.
const jobTemplate = "  template: {metadata: {name: pi, labels: {app: x}}, spec: {restartPolicy: Never, containers: [{name: c, image: i:1}]}}\n"

// asManager are the arguments of a write that no webhook sees.
var asManager = []string{"--as=keelson:manager"}

// select writes what the job controller writes first.
func (k kubectl) selectJob(t *testing.T, name string) {
	t.Helper()
	uid := k.show(t, "kjob/"+name, "{.metadata.uid}")
	k.must(t, "", append(asManager, "patch", "kjob/"+name, "--type=merge", "-p", fmt.Sprintf(
		`{"spec": {"selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": %[1]q}}, "template": {"metadata": {"labels": {"batch.kubernetes.io/controller-uid": %[1]q, "controller-uid": %[1]q, "batch.kubernetes.io/job-name": %[2]q, "job-name": %[2]q}}}}}`, uid, name))...)
}

func testJobs(t *testing.T) {
	for name, part := range map[string]func(*testing.T, kubectl){
		"defaults, without the UID of the dry run": jobDefaults,
		"bad input":                    badJobs,
		"what may not change":          badJobChanges,
		"what may":                     jobChanges,
		"an Indexed Job is elastic":    elasticJob,
		"a suspended Job is rewritten": suspendedJob,
		"a manual selector":            manualSelector,
		"CronJobs":                     cronJobs,
	} {
		t.Run(name, func(t *testing.T) { part(t, newKubectl(t)) })
	}
}

func jobDefaults(t *testing.T, k kubectl) {
	k.create(t, batch("Job", "a", jobTemplate))
	expect(t, "spec", "1 1 6 NonIndexed false false TerminatingOrFailed ClusterFirst", k.show(t, "kjob/a",
		"{.spec.completions} {.spec.parallelism} {.spec.backoffLimit} {.spec.completionMode} {.spec.suspend} {.spec.manualSelector} {.spec.podReplacementPolicy} {.spec.template.spec.dnsPolicy}"))
	expect(t, "selector and labels", ` {"app":"x"} {"app":"x"}`, k.show(t, "kjob/a", "{.spec.selector} {.spec.template.metadata.labels} {.metadata.labels}"))
}

func badJobs(t *testing.T, k kubectl) {
	for name, tc := range map[string]struct {
		object string
		want   []string
	}{
		"Pods that never end": {
			batch("Job", "a", "  template: {spec: {restartPolicy: Always, containers: [{name: c, image: i}]}}\n"),
			[]string{`The Job "a" is invalid: spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"`},
		},
		"a label that names another Job": {
			batch("Job", "a", "  template: {metadata: {labels: {job-name: b}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}\n"),
			[]string{`The Job "a" is invalid: spec.template.metadata.labels[job-name]: Invalid value: {`},
		},
		"an Indexed Job without an end": {
			batch("Job", "a", "  completionMode: Indexed\n  parallelism: 2\n"+jobTemplate),
			[]string{`The Job "a" is invalid: spec.completions: Required value: when completion mode is Indexed`},
		},
		"a schedule with a zone": {
			batch("CronJob", "a", "  schedule: TZ=Europe/Berlin 0 * * * *\n  jobTemplate:\n    spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}\n"),
			[]string{`The CronJob "a" is invalid: spec.schedule: Invalid value: "TZ=Europe/Berlin 0 * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead`},
		},
		"a zone that is none": {
			batch("CronJob", "a", "  schedule: 0 * * * *\n  timeZone: Nowhere/Land\n  jobTemplate:\n    spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}\n"),
			[]string{`The CronJob "a" is invalid: spec.timeZone: Invalid value: "Nowhere/Land": unknown time zone Nowhere/Land`},
		},
		"a schedule that is none": {
			batch("CronJob", "a", "  schedule: often\n  jobTemplate:\n    spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}\n"),
			[]string{`The CronJob "a" is invalid: spec.schedule: Invalid value: "often": expected exactly 5 fields, found 1: [often]`},
		},
		"Jobs of a schedule whose Pods never end": {
			batch("CronJob", "a", "  schedule: 0 * * * *\n  jobTemplate:\n    spec: {template: {spec: {restartPolicy: Always, containers: [{name: c, image: i}]}}}\n"),
			[]string{`The CronJob "a" is invalid: spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"`},
		},
	} {
		t.Run(name, func(t *testing.T) { k.refusedLike(t, tc.object, tc.want, "create", "-f", "-") })
	}
}

// refusedLike is refused, comparing the beginning of each line only.
func (k kubectl) refusedLike(t *testing.T, object string, want []string, args ...string) {
	t.Helper()
	stdout, stderr, code := k.run(t, object, args...)
	if code == 0 {
		t.Fatalf("accepted: %s", stdout)
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if len(lines) < len(want) {
		t.Fatalf("kubectl said %s", stderr)
	}
	for i, w := range want {
		if !strings.HasPrefix(lines[i], w) {
			t.Errorf("line %d: got %q, want %q", i, lines[i], w)
		}
	}
}

func badJobChanges(t *testing.T, k kubectl) {
	k.create(t, batch("Job", "a", jobTemplate))
	for _, selected := range []bool{false, true} {
		if selected {
			k.selectJob(t, "a")
		}
		for patch, want := range map[string]string{
			`{"spec": {"completions": 3}}`:                                       "spec.completions: Invalid value: 3: field is immutable",
			`{"spec": {"completionMode": "Indexed"}}`:                            `spec.completionMode: Invalid value: "Indexed": field is immutable`,
			`{"spec": {"backoffLimitPerIndex": 1, "completionMode": "Indexed"}}`: "spec.backoffLimitPerIndex: Invalid value: 1: field is immutable",
			`{"spec": {"managedBy": "example.com/x"}}`:                           `spec.managedBy: Invalid value: "example.com/x": field is immutable`,
			`{"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}}`:   "spec.template: Invalid value: ",
			`{"spec": {"template": {"metadata": {"labels": {"app": "y"}}}}}`:     "spec.template: Invalid value: ",
			`{"spec": {"selector": {"matchLabels": {"app": "x"}}}}`:              "spec.selector: Invalid value: ",
			`{"spec": {"podReplacementPolicy": "Failed", "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}}`: "spec.podFailurePolicy: Invalid value: ",
		} {
			stdout, stderr, code := k.run(t, "", "patch", "kjob/a", "--type=merge", "-p", patch)
			if code == 0 || !strings.Contains(stderr, want) {
				t.Errorf("selected %v, %s: %s%s, want %q", selected, patch, stdout, stderr, want)
			}
		}
	}
}

func jobChanges(t *testing.T, k kubectl) {
	k.create(t, batch("Job", "a", jobTemplate))
	for _, selected := range []bool{false, true} {
		if selected {
			k.selectJob(t, "a")
		}
		k.must(t, "", "patch", "kjob/a", "--type=merge", "-p", fmt.Sprintf(`{"spec": {"parallelism": 3, "backoffLimit": 9, "suspend": true, "activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": %d}}`, map[bool]int{false: 5, true: 6}[selected]))
		k.must(t, "", "patch", "kjob/a", "--type=merge", "-p", `{"spec": {"suspend": false}}`)
	}
	uid := k.show(t, "kjob/a", "{.metadata.uid}")
	expect(t, "what was changed, and the selector", "3 9 6 false false "+uid+" "+uid, k.show(t, "kjob/a",
		`{.spec.parallelism} {.spec.backoffLimit} {.spec.ttlSecondsAfterFinished} {.spec.suspend} {.spec.manualSelector} {.spec.selector.matchLabels.batch\.kubernetes\.io/controller-uid} {.spec.template.metadata.labels.controller-uid}`))
	k.refused(t, "", []string{`The Job "a" is invalid: spec.parallelism: Invalid value: -1: must be greater than or equal to 0`},
		"patch", "kjob/a", "--type=merge", "-p", `{"spec": {"parallelism": -1}}`)
}

func elasticJob(t *testing.T, k kubectl) {
	k.create(t, batch("Job", "a", "  completionMode: Indexed\n  completions: 3\n  parallelism: 3\n"+jobTemplate))
	k.selectJob(t, "a")
	k.must(t, "", "patch", "kjob/a", "--type=merge", "-p", `{"spec": {"completions": 5, "parallelism": 5}}`)
	k.refused(t, "", []string{`The Job "a" is invalid: spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism`},
		"patch", "kjob/a", "--type=merge", "-p", `{"spec": {"completions": 4}}`)
}

func suspendedJob(t *testing.T, k kubectl) {
	k.create(t, batch("Job", "a", "  suspend: true\n"+jobTemplate))
	k.selectJob(t, "a")
	k.must(t, "", "patch", "kjob/a", "--type=merge", "-p",
		`{"spec": {"template": {"metadata": {"annotations": {"a": "b"}}, "spec": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "k", "operator": "Exists"}], "containers": [{"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "1"}}}]}}}}`)
	k.refusedLike(t, "", []string{`The Job "a" is invalid: spec.template.spec: Invalid value: `},
		"patch", "kjob/a", "--type=merge", "-p", `{"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}}`)
	// It has started since, and its Pods are not gone.
	k.must(t, "", "patch", "kjob/a", "--subresource=status", "--type=merge", "-p", `{"status": {"active": 1, "startTime": "2026-01-02T03:04:05Z"}}`)
	k.refusedLike(t, "", []string{`The Job "a" is invalid: spec.template: Invalid value: `},
		"patch", "kjob/a", "--type=merge", "-p", `{"spec": {"template": {"spec": {"nodeSelector": {"disk": "hdd"}}}}}`)
}

func manualSelector(t *testing.T, k kubectl) {
	k.create(t, batch("Job", "a", "  manualSelector: true\n  selector: {matchLabels: {app: x}}\n"+jobTemplate))
	expect(t, "selector", `true {"matchLabels":{"app":"x"}}`, k.show(t, "kjob/a", "{.spec.manualSelector} {.spec.selector}"))
	k.refusedLike(t, batch("Job", "b", "  selector: {matchLabels: {app: x}}\n"+jobTemplate), []string{`The Job "b" is invalid: spec.selector: Invalid value: `}, "create", "-f", "-")
}

func cronJobs(t *testing.T, k kubectl) {
	k.create(t, batch("CronJob", "a", "  schedule: 0 * * * *\n  jobTemplate:\n    spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}\n"))
	expect(t, "spec", "Allow false 3 1", k.show(t, "kcj/a", "{.spec.concurrencyPolicy} {.spec.suspend} {.spec.successfulJobsHistoryLimit} {.spec.failedJobsHistoryLimit}"))
	k.must(t, "", "patch", "kcj/a", "--type=merge", "-p", `{"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"completions": 3}}}}`)
	k.refused(t, "", []string{`The CronJob "a" is invalid: spec.schedule: Invalid value: "often": expected exactly 5 fields, found 1: [often]`},
		"patch", "kcj/a", "--type=merge", "-p", `{"spec": {"schedule": "often"}}`)
}
