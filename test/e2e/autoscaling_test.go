package e2e

import (
	"fmt"
	"testing"
	"time"
)

// rescale is how long an autoscaler may take: it looks every 15 s, at samples that agents
// take on their own, and a burst of others' tests may keep the load down for a while.
const rescale = 4 * time.Minute

// burner burns all CPU that it gets, twice what it asks for, as long as LOAD is on.
const burner = `apiVersion: apps/v1
kind: Deployment
metadata: {name: burner}
spec:
  selector: {matchLabels: {app: burner}}
  template:
    metadata: {labels: {app: burner}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: %q
        command: [sh, -c, 'while [ "$LOAD" = on ]; do :; done; sleep 3600']
        env: [{name: LOAD, value: "on"}]
        resources: {requests: {cpu: 50m}, limits: {cpu: 100m}}
`

// TestPlainAutoscaling scales by what Pods really use, with stock kubectl.
func TestPlainAutoscaling(t *testing.T) {
	s := newPlainSpace(t)
	s.apply(fmt.Sprintf(burner, cluster.Image(busyboxImage)))
	s.run("rollout", "status", "deployment/burner", "--timeout=120s")
	s.want([]string{"autoscale", "deployment", "burner", "--cpu=50%", "--min=1", "--max=3"}, "horizontalpodautoscaler.autoscaling/burner autoscaled")
	s.run("patch", "hpa", "burner", "--type=merge", "-p", `{"spec":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":0}}}}`)
	shows := func(what, row string) {
		t.Helper()
		s.eventually(rescale, what, func() error {
			return matches(s.run("get", "hpa"), `^NAME +REFERENCE +TARGETS +MINPODS +MAXPODS +REPLICAS +AGE\n`+row)
		})
	}

	shows("the load", `burner +Deployment/burner +cpu: \d{2,3}%/50% +1 +3 +3 +`)
	s.wantField("deployment/burner", ".spec.replicas", "3")
	s.wantField("hpa/burner", ".status.conditions[?(@.type=='ScalingActive')].reason", "ValidMetricFound")
	s.want([]string{"describe", "hpa", "burner"}, "SuccessfulRescale", "reason: cpu resource utilization (percentage of request) above target")

	s.run("set", "env", "deployment/burner", "LOAD=off")
	shows("no load", `burner +Deployment/burner +cpu: \d%/50% +1 +3 +1 +`)
	s.wantField("deployment/burner", ".spec.replicas", "1")
	s.want([]string{"describe", "hpa", "burner"}, "reason: All metrics below target")
}
