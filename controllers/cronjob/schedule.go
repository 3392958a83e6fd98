package cronjob

import (
	"errors"
	"fmt"
	"strings"
	"time"
	// Zones must be known wherever the manager runs, also where there is no /usr/share/zoneinfo.
	_ "time/tzdata"

	"github.com/robfig/cron/v3"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
)

const (
	// skew is how much later than its time a schedule is looked at, so that a clock that
	// is set back a little does not make the look come too early.
	skew = 100 * time.Millisecond
	// manyMissed is how many missed times are worth a warning.
	manyMissed = 100
)

var errNeverAgain = errors.New("time difference between two schedules is less than 1 second")

// parse reads the schedule of cronJob in its time zone.
func parse(cronJob *batchv1.CronJob) (schedule cron.Schedule, err error) {
	text := cronJob.Spec.Schedule
	if zone := cronJob.Spec.TimeZone; zone != nil && !strings.Contains(text, "TZ") {
		text = fmt.Sprintf("TZ=%s %s", *zone, text)
	}
	// The parser panics on some texts, "TZ=0" for one.
	defer func() {
		if r := recover(); r != nil {
			schedule, err = nil, fmt.Errorf("failed to parse schedule %q: %v", text, r)
		}
	}()
	return cron.ParseStandard(text)
}

// slot is where a schedule stands at some moment.
type slot struct {
	// earliest is since when times count: the last one that was used, or the creation.
	earliest time.Time
	// due is the most recent time that has come and was not used; nil for none.
	due *time.Time
	// missed is how many have, roughly: by the distance between the first two.
	missed int64
}

// slotAt computes the slot. With useDeadline, times that are older than
// startingDeadlineSeconds do not count. A schedule that is well-formed and never comes
// again (the 31st of February) is an error.
func slotAt(cronJob *batchv1.CronJob, schedule cron.Schedule, useDeadline bool, now time.Time) (slot, error) {
	s := slot{earliest: cronJob.CreationTimestamp.Time}
	if last := cronJob.Status.LastScheduleTime; last != nil {
		s.earliest = last.Time
	}
	if deadline := cronJob.Spec.StartingDeadlineSeconds; useDeadline && deadline != nil {
		if limit := now.Add(-time.Duration(*deadline) * time.Second); limit.After(s.earliest) {
			s.earliest = limit
		}
	}
	first := schedule.Next(s.earliest)
	second := schedule.Next(first)
	if now.Before(first) {
		return s, nil
	}
	if now.Before(second) {
		s.due = &first
		return s, nil
	}
	period := int64(second.Sub(first).Round(time.Second) / time.Second)
	if period < 1 {
		return s, errNeverAgain
	}
	s.missed = int64(now.Sub(first)/time.Second)/period + 1
	// Two periods before the estimate: uneven schedules ("30 6-16/4 * * 1-5") and @every,
	// which counts from where it is asked, both come out right from there.
	from := first.Add(time.Duration((s.missed-2)*period) * time.Second)
	for t := schedule.Next(from); !t.After(now) && !t.IsZero(); t = schedule.Next(t) {
		s.due = &t
	}
	return s, nil
}

// waitForNext is how long after now the schedule has to be looked at again.
func waitForNext(cronJob *batchv1.CronJob, schedule cron.Schedule, now time.Time) time.Duration {
	s, err := slotAt(cronJob, schedule, false, now)
	from := now
	switch {
	case err != nil:
	case s.due != nil:
		from = *s.due
	case s.missed == 0:
		from = s.earliest
	}
	return schedule.Next(from).Add(skew).Sub(now)
}

// jobName names the Job of one time, so that it cannot be made twice.
func jobName(cronJob string, at time.Time) string { return fmt.Sprintf("%s-%d", cronJob, at.Unix()/60) }
