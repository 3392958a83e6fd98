package admission

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/quota"
)

// maxQuotaConflicts is how often a batch is judged again because somebody else wrote to
// a quota meanwhile: another replica, or the controller that counts.
const maxQuotaConflicts = 20

// quotaTimeout bounds the work on one batch: the API server waits no longer for the answer.
const quotaTimeout = 10 * time.Second

// quotaLedger reserves in the quotas of a Namespace what objects take that are about to
// be stored. The requests that wait for one Namespace are served together, with one
// write for each quota, so that a burst does not fight with itself. Replicas share
// nothing but the quotas: each write insists on the version that was read.
//
// It keeps nothing. What was reserved for an object that was never stored goes away by
// itself (quota.Pending).
type quotaLedger struct {
	// live reads from the API server.
	live   client.Reader
	writer client.SubResourceWriter
	clock  clock.PassiveClock

	mu      sync.Mutex
	waiting map[string][]*quotaTicket
}

// quotaTicket is one request that waits.
type quotaTicket struct {
	request quota.Request
	dryRun  bool
	answer  chan error
}

// reserve returns nil when the object fits, refused when it does not.
func (l *quotaLedger) reserve(ctx context.Context, namespace string, request quota.Request, dryRun bool) error {
	ticket := &quotaTicket{request: request, dryRun: dryRun, answer: make(chan error, 1)}
	l.mu.Lock()
	if l.waiting == nil {
		l.waiting = map[string][]*quotaTicket{}
	}
	_, served := l.waiting[namespace]
	l.waiting[namespace] = append(l.waiting[namespace], ticket)
	l.mu.Unlock()
	if !served {
		// The one who comes first serves all; the request's own end must not leave
		// the others behind.
		go l.serve(context.WithoutCancel(ctx), namespace)
	}
	select {
	case err := <-ticket.answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the quotas of the namespace: %w", ctx.Err())
	}
}

// serve works until nobody waits.
func (l *quotaLedger) serve(ctx context.Context, namespace string) {
	for {
		l.mu.Lock()
		batch := l.waiting[namespace]
		if len(batch) == 0 {
			delete(l.waiting, namespace)
			l.mu.Unlock()
			return
		}
		l.waiting[namespace] = nil
		l.mu.Unlock()
		limited, cancel := context.WithTimeout(ctx, quotaTimeout)
		answers := l.judge(limited, namespace, batch)
		cancel()
		for i, err := range answers {
			batch[i].answer <- err
		}
	}
}

// judge answers each ticket of a batch.
func (l *quotaLedger) judge(ctx context.Context, namespace string, batch []*quotaTicket) []error {
	answers := make([]error, len(batch))
	fail := func(err error) []error {
		for i := range answers {
			if _, no := answers[i].(refused); !no { //nolint:errorlint // made by this package
				answers[i] = err
			}
		}
		return answers
	}
	for range maxQuotaConflicts {
		var list keelsonv1.ResourceQuotaList
		if err := l.live.List(ctx, &list, client.InNamespace(namespace)); err != nil {
			return fail(fmt.Errorf("list the ResourceQuotas: %w", err))
		}
		changed := l.fit(list.Items, batch, answers)
		err := l.write(ctx, changed)
		switch {
		case err == nil:
			return answers
		case !apierrors.IsConflict(err):
			return fail(err)
		}
	}
	return fail(fmt.Errorf("the ResourceQuotas changed %d times meanwhile", maxQuotaConflicts))
}

// fit judges the tickets one after the other, each with what those before it take, and
// returns the quotas to write.
func (l *quotaLedger) fit(quotas []keelsonv1.ResourceQuota, batch []*quotaTicket, answers []error) []*keelsonv1.ResourceQuota {
	now := l.clock.Now()
	current := make([]*keelsonv1.ResourceQuota, len(quotas))
	at := make(map[string]int, len(quotas))
	for i := range quotas {
		current[i], at[quotas[i].Name] = &quotas[i], i
	}
	dirty := map[int]bool{}
	for i, ticket := range batch {
		changed, err := quota.Admit(current, ticket.request, now)
		if answers[i] = nil; err != nil {
			answers[i] = refused{err}
		}
		if ticket.dryRun {
			continue
		}
		for _, next := range changed {
			current[at[next.Name]] = next
			dirty[at[next.Name]] = true
		}
	}
	var write []*keelsonv1.ResourceQuota
	for i, q := range current {
		if dirty[i] {
			q.Status.Summary.Request, q.Status.Summary.Limit = summary.Quota(&q.Status.ResourceQuotaStatus)
			write = append(write, q)
		}
	}
	return write
}

// write stores the quotas as they were read, or fails with a conflict. One that is gone
// limits nobody.
func (l *quotaLedger) write(ctx context.Context, quotas []*keelsonv1.ResourceQuota) error {
	for _, q := range quotas {
		if err := l.writer.Update(ctx, q); client.IgnoreNotFound(err) != nil {
			if apierrors.IsConflict(err) {
				return err
			}
			return fmt.Errorf("reserve in ResourceQuota %s: %w", q.Name, err)
		}
	}
	return nil
}
