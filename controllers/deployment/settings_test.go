package deployment

import (
	"strings"
	"testing"
	"time"

	upstreamappsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/keelson-dev/keelson/test/builders"
)

func TestSettings(t *testing.T) {
	number, percent := intstr.FromInt32, intstr.FromString
	tests := map[string]struct {
		replicas             int32
		surge, unavailable   intstr.IntOrString
		wantMax, wantMinimum int32
	}{
		"percentages: the surge rounds up, the other down": {10, percent("25%"), percent("25%"), 13, 8},
		"30% of ten":                                {10, percent("30%"), percent("30%"), 13, 7},
		"absolute":                                  {10, number(3), number(2), 13, 8},
		"both are 0 after rounding: one may go":     {2, percent("0%"), percent("1%"), 2, 1},
		"one is 0":                                  {1, number(1), number(0), 2, 1},
		"more unavailable than there are":           {2, number(0), number(5), 2, 0},
		"nothing wanted":                            {0, percent("25%"), percent("25%"), 0, 0},
		"nothing wanted, with an absolute surge":    {0, number(3), number(2), 3, 0},
		"everything may go":                         {3, percent("0%"), percent("100%"), 3, 0},
		"twice as many":                             {3, percent("100%"), percent("0%"), 6, 3},
		"a percentage above 100 of the unavailable": {3, percent("0%"), percent("150%"), 3, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d := builders.MakeDeployment("web", tc.replicas).Spec(func(s *upstreamappsv1.DeploymentSpec) {
				s.Strategy.RollingUpdate = &upstreamappsv1.RollingUpdateDeployment{MaxSurge: &tc.surge, MaxUnavailable: &tc.unavailable}
			}).Obj()
			got, err := settingsOf(d)
			if err != nil || got.maxReplicas() != tc.wantMax || got.minAvailable() != tc.wantMinimum {
				t.Errorf("at most %d, at least %d (%v), want %d and %d", got.maxReplicas(), got.minAvailable(), err, tc.wantMax, tc.wantMinimum)
			}
		})
	}
}

func TestSettingsOfASpecThatAdmissionNeverSaw(t *testing.T) {
	d := builders.MakeDeployment("web", 1).Obj()
	d.Spec.Replicas = nil
	got, err := settingsOf(d)
	if err != nil || got.replicas != 1 || got.recreate || got.maxReplicas() != 2 || got.minAvailable() != 1 ||
		got.deadline != 10*time.Minute || got.historyLimit != 10 {
		t.Errorf("%+v, %v: not upstream's defaults", got, err)
	}
}

func TestSettingsThatCannotBeServed(t *testing.T) {
	bad := intstr.FromString("a lot")
	negative := intstr.FromInt32(-1)
	tests := map[string]struct {
		change func(*upstreamappsv1.DeploymentSpec)
		want   string
	}{
		"no selector": {func(s *upstreamappsv1.DeploymentSpec) { s.Selector = nil }, "spec.selector is missing"},
		"an operator": {func(s *upstreamappsv1.DeploymentSpec) {
			s.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}
		}, "spec.selector cannot be used"},
		"other labels": {func(s *upstreamappsv1.DeploymentSpec) { s.Template.Labels = nil }, "spec.template.metadata.labels"},
		"a strategy":   {func(s *upstreamappsv1.DeploymentSpec) { s.Strategy.Type = "Canary" }, `spec.strategy.type "Canary"`},
		"a surge": {func(s *upstreamappsv1.DeploymentSpec) {
			s.Strategy.RollingUpdate = &upstreamappsv1.RollingUpdateDeployment{MaxSurge: &bad}
		}, "spec.strategy.rollingUpdate.maxSurge"},
		"a negative number": {func(s *upstreamappsv1.DeploymentSpec) {
			s.Strategy.RollingUpdate = &upstreamappsv1.RollingUpdateDeployment{MaxUnavailable: &negative}
		}, "maxUnavailable: -1 is negative"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := settingsOf(builders.MakeDeployment("web", 1).Spec(tc.change).Obj())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAppendHistory(t *testing.T) {
	long := strings.Repeat("1234,", 399) + "1234"
	got := appendHistory(long, "99999")
	if len(got) > maxHistory || !strings.HasSuffix(got, ",1234,99999") || !strings.HasPrefix(got, "1234,") {
		t.Errorf("%d characters: %s…", len(got), got[:20])
	}
	if got := appendHistory("", "7"); got != "7" {
		t.Errorf("got %q", got)
	}
}

func TestSetNamesFit(t *testing.T) {
	if got := setName(strings.Repeat("a", 253), "abcde"); len(got) != 253 || !strings.HasSuffix(got, "a-abcde") {
		t.Errorf("%d characters: %s", len(got), got)
	}
}
