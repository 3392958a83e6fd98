package csrcleaner

import (
	"crypto/x509"
	"encoding/pem"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
)

// How long requests stay, as upstream.
const (
	// answered is for those that were issued, denied or that failed.
	answered = time.Hour
	// unanswered is for those that nobody has decided on, or that are approved and that
	// nobody signs.
	unanswered = 24 * time.Hour
)

// expiry is when request may go, and why.
func expiry(request *certificatesv1.CertificateSigningRequest) (end time.Time, why string) {
	issued := len(request.Status.Certificate) > 0
	earlier := func(at time.Time, reason string) {
		if end.IsZero() || at.Before(end) {
			end, why = at, reason
		}
	}
	for _, condition := range request.Status.Conditions {
		since := condition.LastUpdateTime.Time
		if since.IsZero() {
			// Nobody set it: the oldest time there can be.
			since = request.CreationTimestamp.Time
		}
		switch condition.Type {
		case certificatesv1.CertificateDenied:
			earlier(since.Add(answered), "it was denied")
		case certificatesv1.CertificateFailed:
			earlier(since.Add(answered), "it failed")
		case certificatesv1.CertificateApproved:
			if !issued {
				earlier(since.Add(unanswered), "it was approved and nobody signed it")
				continue
			}
			earlier(since.Add(answered), "it was issued")
			if notAfter, known := certificateEnd(request.Status.Certificate); known {
				earlier(notAfter, "its certificate has expired")
			}
		}
	}
	if end.IsZero() {
		return request.CreationTimestamp.Add(unanswered), "nobody decided on it"
	}
	return end, why
}

func certificateEnd(chain []byte) (time.Time, bool) {
	block, _ := pem.Decode(chain)
	if block == nil {
		return time.Time{}, false
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, false
	}
	return certificate.NotAfter, true
}
