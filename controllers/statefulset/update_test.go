package statefulset

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/test/builders"
)

// sketch makes Pods of words such as "a b! -": the revision, and "!" for one that is
// sick, "~" for one that terminates, "?" for one that became ready a moment ago; "-" is
// a number without a Pod.
func sketch(words string) []*builders.PodBuilder {
	var all []*builders.PodBuilder
	for i, word := range strings.Fields(words) {
		revision, state := word[:1], word[1:]
		switch {
		case revision == "-":
		case state == "!":
			all = append(all, pod(i, revision).NotReady(long))
		case state == "~":
			all = append(all, ready(i, revision).Deleting(now))
		case state == "?":
			all = append(all, pod(i, revision).Ready(now.Add(-time.Second)))
		default:
			all = append(all, ready(i, revision))
		}
	}
	return all
}

// TestUpdatesReckonWithTheSick: which Pods an update replaces while others are not
// available. The facts are those of upstream's
// TestStatefulSetControlRollingUpdateWithMaxUnavailableAndUnavailableStalePod.
func TestUpdatesReckonWithTheSick(t *testing.T) {
	for what, tc := range map[string]struct {
		pods                      string
		partition, maxUnavailable int
		parallel, ordered         []string // what goes
	}{
		"the only Pod is sick":                             {pods: "a!", parallel: []string{"web-0"}},
		"the highest is sick":                              {pods: "a a a!", parallel: []string{"web-2"}},
		"the lowest is sick":                               {pods: "a! a a", parallel: []string{"web-0"}},
		"two of five are sick":                             {pods: "a a a a! a!", parallel: []string{"web-4", "web-3"}},
		"the highest terminates, and uses up what may":     {pods: "a a a~"},
		"one terminates, one is sick, and three may":       {pods: "a a a a! a~", maxUnavailable: 3, parallel: []string{"web-3", "web-2"}},
		"the other way round":                              {pods: "a a a a~ a!", maxUnavailable: 3, parallel: []string{"web-4", "web-2"}},
		"one has been ready for too short a time":          {pods: "a a a?", parallel: []string{"web-2"}},
		"a sick one above the partition":                   {pods: "a a a a a!", partition: 2, parallel: []string{"web-4"}},
		"a sick one at the partition":                      {pods: "a a a! a a", partition: 2, parallel: []string{"web-2"}},
		"a sick one below it uses up what may":             {pods: "a a! a a a", partition: 2},
		"both above the partition are sick":                {pods: "a a a a! a!", partition: 3, maxUnavailable: 2, parallel: []string{"web-4", "web-3"}},
		"one below and one above are sick":                 {pods: "a a! a a a!", partition: 3, maxUnavailable: 2, parallel: []string{"web-4"}},
		"two low ones are sick, and two may":               {pods: "a! a! a a", maxUnavailable: 2, parallel: []string{"web-1", "web-0"}},
		"two low ones are sick, and three may":             {pods: "a! a! a a a", maxUnavailable: 3, parallel: []string{"web-1", "web-0", "web-4"}},
		"one of the new revision is not ready yet":         {pods: "a a b!"},
		"as many as may":                                   {pods: "a a a a", maxUnavailable: 3, parallel: []string{"web-3", "web-2", "web-1"}, ordered: []string{"web-3", "web-2", "web-1"}},
		"more may than there are":                          {pods: "a a", maxUnavailable: 5, parallel: []string{"web-1", "web-0"}, ordered: []string{"web-1", "web-0"}},
		"an older revision still goes, too":                {pods: "x a b", parallel: []string{"web-1"}, ordered: []string{"web-1"}},
		"nothing is left to update":                        {pods: "b b b", maxUnavailable: 2},
		"all above the partition are new":                  {pods: "a a b b", partition: 2, maxUnavailable: 2},
		"the partition is beyond the Pods":                 {pods: "a a", partition: 9, maxUnavailable: 2},
		"all of them are sick, as after a broken template": {pods: "a! a! a!", parallel: []string{"web-2", "web-1", "web-0"}},
		"all of the new revision are sick, one is old":     {pods: "a b! b!"},
	} {
		t.Run(what, func(t *testing.T) {
			pods := objects(sketch(tc.pods)...)
			s := settings{name: "web", replicas: len(pods), rolling: true, partition: tc.partition, maxUnavailable: max(1, tc.maxUnavailable), minReadySeconds: 30}
			for _, mode := range []struct {
				name     string
				parallel bool
				want     []string
			}{{"in parallel", true, tc.parallel}, {"in order", false, tc.ordered}} {
				s.parallel = mode.parallel
				p := makePlan(input{settings: s, revisions: revisions{"a", "b"}, pods: pods, now: now})
				if diff := cmp.Diff(actions{Updated: mode.want}, describe(p)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", mode.name, diff)
				}
			}
		})
	}
}
