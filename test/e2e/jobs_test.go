package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// job is a Job in upstream's words whose Pods run script.
func job(name, spec, script string) string {
	return fmt.Sprintf(`apiVersion: batch/v1
kind: Job
metadata: {name: %s}
spec:
%s
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: %q, command: [sh, -c, %q]}
`, name, spec, cluster.Image(busyboxImage), script)
}

// TestPlainJobs runs Jobs and CronJobs with stock kubectl, through the gateway.
func TestPlainJobs(t *testing.T) {
	s := newPlainSpace(t)
	image := cluster.Image(busyboxImage)

	t.Run("from kubectl create to its log", func(t *testing.T) {
		s := s.of(t)
		s.want([]string{"create", "job", "hello", "--image=" + image, "--", "sh", "-c", "echo hello from a job"}, "job.batch/hello created")
		s.run("wait", "--for=condition=complete", "job/hello", "--timeout=60s")
		s.want([]string{"logs", "job/hello"}, "hello from a job")
		s.wantField("job/hello", ".spec.selector.matchLabels['batch\\.kubernetes\\.io/controller-uid']", s.field("job/hello", ".metadata.uid"))
		s.want([]string{"get", "job", "hello", "-o", "wide"}, "NAME", "STATUS", "COMPLETIONS", "DURATION", "Complete", "1/1", "batch.kubernetes.io/controller-uid=")
		s.want([]string{"describe", "job", "hello"}, "Pods Statuses:", "0 Active (0 Ready) / 1 Succeeded / 0 Failed", "Created pod: hello-", "Job completed")
		s.want([]string{"get", "pods", "-l", "job-name=hello", "-o", "name"}, "pod/hello-")
	})
	t.Run("indexes reach the containers", func(t *testing.T) {
		s := s.of(t)
		s.apply(job("ix", "  completionMode: Indexed\n  completions: 3\n  parallelism: 3\n", "echo $JOB_COMPLETION_INDEX on $(hostname)"))
		s.run("wait", "--for=condition=complete", "job/ix", "--timeout=60s")
		s.wantField("job/ix", ".status.completedIndexes", "0-2")
		s.want([]string{"logs", "-l", "job-name=ix"}, "0 on ix-0", "1 on ix-1", "2 on ix-2")
	})
	t.Run("a failure", func(t *testing.T) {
		s := s.of(t)
		s.apply(job("bad", "  backoffLimit: 0\n", "exit 3"))
		s.run("wait", "--for=condition=failed", "job/bad", "--timeout=60s")
		s.wantField("job/bad", ".status.conditions[?(@.type=='Failed')].reason", "BackoffLimitExceeded")
		s.want([]string{"describe", "job", "bad"}, "Job has reached the specified backoff limit")
	})
	t.Run("suspend and resume", func(t *testing.T) {
		s := s.of(t)
		s.apply(job("nap", "  suspend: true\n", "sleep 600"))
		s.run("wait", "--for=condition=suspended", "job/nap", "--timeout=30s")
		s.want([]string{"get", "job", "nap"}, "Suspended", "0/1")
		s.run("patch", "job", "nap", "-p", `{"spec":{"suspend":false}}`)
		s.run("wait", "--for=jsonpath={.status.ready}=1", "job/nap", "--timeout=60s")
		s.run("patch", "job", "nap", "-p", `{"spec":{"suspend":true}}`)
		s.run("wait", "--for=delete", "pod", "-l", "job-name=nap", "--timeout=60s")
		s.wantField("job/nap", ".status.failed", "")
		s.refused([]string{"patch", "job", "nap", "-p", `{"spec":{"completions":7}}`}, "spec.completions", "field is immutable")
	})
	t.Run("deletion takes the Pods, and --cascade=orphan leaves them", func(t *testing.T) {
		s := s.of(t)
		for _, name := range []string{"gone", "left"} {
			s.apply(job(name, "  parallelism: 2\n  completions: 2\n", "sleep 600"))
			s.run("wait", "--for=jsonpath={.status.ready}=2", "job/"+name, "--timeout=60s")
		}
		s.run("delete", "job", "gone")
		s.run("wait", "--for=delete", "pod", "-l", "job-name=gone", "--timeout=60s")
		s.run("delete", "job", "left", "--cascade=orphan")
		if left := strings.Fields(s.run("get", "pods", "-l", "job-name=left", "-o", "name")); len(left) != 2 {
			t.Errorf("Pods %v are left, want 2", left)
		}
		s.run("delete", "pods", "-l", "job-name=left", "--timeout=60s")
	})
	t.Run("a CronJob, and a Job from it", func(t *testing.T) {
		s := s.of(t)
		s.want([]string{"create", "cronjob", "tick", "--image=" + image, "--schedule=0 0 1 1 *", "--", "echo", "tick"}, "cronjob.batch/tick created")
		s.eventually(30*time.Second, "the columns of the CronJob", func() error {
			out, err := s.try("get", "cronjob", "tick")
			if err != nil {
				return err
			}
			return wantIn(out, "False")
		})
		s.want([]string{"get", "cronjob", "tick", "-o", "wide"}, "SCHEDULE", "TIMEZONE", "LAST SCHEDULE", "0 0 1 1 *", "<none>", "False")
		s.want([]string{"create", "job", "now", "--from=cronjob/tick"}, "job.batch/now created")
		s.run("wait", "--for=condition=complete", "job/now", "--timeout=60s")
		s.want([]string{"logs", "job/now"}, "tick")
		s.want([]string{"describe", "cronjob", "tick"}, "Schedule:", "0 0 1 1 *", "Concurrency Policy:", "Allow")
		s.run("delete", "cronjob", "tick")
		s.run("wait", "--for=delete", "job/now", "--timeout=60s")
	})
	t.Run("a Job that deletes itself", func(t *testing.T) {
		s := s.of(t)
		s.apply(job("short", "  ttlSecondsAfterFinished: 0\n", "true"))
		s.run("wait", "--for=delete", "job/short", "--timeout=60s")
		s.run("wait", "--for=delete", "pod", "-l", "job-name=short", "--timeout=60s")
	})
}
