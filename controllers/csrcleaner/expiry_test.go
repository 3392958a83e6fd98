package csrcleaner

import (
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestExpiry(t *testing.T) {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	decided := made.Add(time.Hour)
	request := func(certificate string, conditions ...certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequest {
		r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(made)}}
		r.Status.Certificate = []byte(certificate)
		for _, kind := range conditions {
			r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: kind, LastUpdateTime: metav1.NewTime(decided)})
		}
		return r
	}
	const approved, denied, failed = certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed
	timeless := request("", denied)
	timeless.Status.Conditions[0].LastUpdateTime = metav1.Time{}
	for name, tc := range map[string]struct {
		request *certificatesv1.CertificateSigningRequest
		want    time.Time
	}{
		"nobody decided":             {request(""), made.Add(24 * time.Hour)},
		"denied":                     {request("", denied), decided.Add(time.Hour)},
		"denied, nobody knows when":  {timeless, made.Add(time.Hour)},
		"failed after the approval":  {request("", approved, failed), decided.Add(time.Hour)},
		"approved, nobody signs":     {request("", approved), decided.Add(24 * time.Hour)},
		"issued":                     {request("no certificate that can be read", approved), decided.Add(time.Hour)},
		"issued and then denied too": {request("x", approved, denied), decided.Add(time.Hour)},
	} {
		if got, why := expiry(tc.request); !got.Equal(tc.want) || why == "" {
			t.Errorf("%s: %s (%s), want %s", name, got, why, tc.want)
		}
	}
}
