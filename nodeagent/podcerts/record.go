package podcerts

import (
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

const (
	// abandonAfter is when a request that cannot be seen was deleted by somebody, as
	// upstream.
	abandonAfter = 10 * time.Minute
	// overdueAfter is how long after the time to renew a certificate it is late.
	overdueAfter = 10 * time.Minute
	// maxJitter spreads renewals, as upstream.
	maxJitter = 5 * time.Minute
)

// record is what is known of one projection of a certificate. Losing it costs one more
// request.
type record struct {
	current *credential
	pending *pending
	// refusal is final: the signer will not sign.
	refusal error
}

// credential is a key and its certificates, both as PEM.
type credential struct {
	key, chain          []byte
	refreshAt, notAfter time.Time
	// saidOverdue and saidExpired keep an event from coming twice.
	saidOverdue, saidExpired bool
}

// pending is a request that has no answer yet.
type pending struct {
	name      string
	key       []byte
	abandonAt time.Time
}

// note is an event about the Pod.
type note struct{ eventType, reason, message string }

// wantsRequest says that it is time to ask for a certificate.
func (r *record) wantsRequest(now time.Time) bool {
	return r.refusal == nil && r.pending == nil && (r.current == nil || !now.Before(r.current.refreshAt))
}

// take brings the record up to date with the request that it waits for, nil when it
// cannot be seen. jitter delays the next renewal.
func (r *record) take(request *certificatesv1.PodCertificateRequest, now time.Time, jitter time.Duration) []note {
	if r.pending == nil {
		return nil
	}
	if request == nil {
		if now.After(r.pending.abandonAt) {
			r.pending = nil // somebody has deleted it: ask again
		}
		return r.late(now)
	}
	name := request.Namespace + "/" + request.Name
	for _, condition := range request.Status.Conditions {
		switch condition.Type {
		case certificatesv1.PodCertificateRequestConditionTypeIssued:
			r.current = &credential{
				key: r.pending.key, chain: certificatesOnly([]byte(request.Status.CertificateChain)),
				refreshAt: timeOf(request.Status.BeginRefreshAt).Add(jitter), notAfter: timeOf(request.Status.NotAfter),
			}
			r.pending = nil
			return nil
		case certificatesv1.PodCertificateRequestConditionTypeDenied:
			return r.refuse(condition.Type, fmt.Sprintf("PodCertificateRequest %s was denied, reason=%q, message=%q", name, condition.Reason, condition.Message),
				fmt.Errorf("PodCertificateRequest was permanently denied: reason=%q message=%q", condition.Reason, condition.Message))
		case certificatesv1.PodCertificateRequestConditionTypeFailed:
			return r.refuse(condition.Type, fmt.Sprintf("PodCertificateRequest %s failed, reason=%q, message=%q", name, condition.Reason, condition.Message),
				fmt.Errorf("PodCertificateRequest was permanently failed: reason=%q message=%q", condition.Reason, condition.Message))
		}
	}
	return r.late(now)
}

func (r *record) refuse(reason, message string, err error) []note {
	r.pending, r.refusal = nil, err
	return []note{{corev1.EventTypeWarning, reason, message}}
}

// late says once each that a renewal takes too long, and that the certificate has ended.
func (r *record) late(now time.Time) []note {
	var notes []note
	c := r.current
	if c == nil {
		return nil
	}
	if now.After(c.refreshAt.Add(overdueAfter)) && !c.saidOverdue {
		c.saidOverdue = true
		notes = append(notes, note{corev1.EventTypeWarning, "CertificateOverdueForRefresh", "PodCertificate refresh overdue"})
	}
	if now.After(c.notAfter) && !c.saidExpired {
		c.saidExpired = true
		notes = append(notes, note{corev1.EventTypeWarning, "CertificateExpired", "PodCertificate expired"})
	}
	return notes
}

// again is when the record has to be looked at without being asked, zero for never.
func (r *record) again(now time.Time) time.Time {
	if r.refusal != nil || r.current == nil {
		return time.Time{}
	}
	candidates := []time.Time{r.current.refreshAt}
	if r.pending != nil {
		candidates = []time.Time{r.pending.abandonAt, r.current.refreshAt.Add(overdueAfter), r.current.notAfter}
	}
	var next time.Time
	for _, t := range candidates {
		if t = t.Add(time.Second); t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}
