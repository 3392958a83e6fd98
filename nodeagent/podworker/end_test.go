package podworker

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestEndGivesUpWhatIsDoneForThePod(t *testing.T) {
	s := &script{take: map[string]time.Duration{"sync": time.Hour}}
	play(t, s, []string{"sync generation 1", "sync generation 1", "stop 1s", "finish keep"}, func(p *Pool) {
		p.Update(makePod(1))
		synctest.Wait()
		s.mu.Lock()
		s.take, s.result = nil, Result{Finished: true} // the next sync sees why
		s.mu.Unlock()
		p.End(uid, time.Second)
		synctest.Wait()
		if !p.Stopped(uid) || !p.Has(uid) {
			t.Errorf("stopped %v, known %v", p.Stopped(uid), p.Has(uid))
		}
	})
}

func TestEndOnlyShortensAStop(t *testing.T) {
	s := &script{take: map[string]time.Duration{"stop": 20 * time.Second}}
	play(t, s, []string{"sync generation 1", "stop 30s", "stop 3s", "finish forget"}, func(p *Pool) {
		p.Update(makePod(1))
		synctest.Wait()
		p.Update(deleted(makePod(1)))
		synctest.Wait()
		if p.Stopped(uid) {
			t.Error("stopped while it stops")
		}
		p.End(uid, 3*time.Second)
		synctest.Wait()
		p.End(uid, time.Minute) // longer: the running stop goes on
		time.Sleep(time.Minute)
		p.End("nobody", time.Second)
		if !p.Stopped(uid) {
			t.Error("a Pod that is gone runs")
		}
	})
}
