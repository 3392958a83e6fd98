package podcerts

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	fakesource "k8s.io/client-go/tools/cache/testing"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/volumes"
)

// story is a Manager with a signer in memory, in the test's own time.
type story struct {
	*Manager
	t      *testing.T
	source *fakesource.FakeControllerSource
	// sign is what the signer makes of each request; nil leaves it unanswered.
	sign func(*certificatesv1.PodCertificateRequest)

	mu      sync.Mutex
	made    int
	deleted []string
	refusal error
	events  []string
	woken   int
}

func tell(t *testing.T, what func(s *story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s := &story{t: t, source: fakesource.NewFakeControllerSource()}
		s.sign = s.issue(24 * time.Hour)
		s.Manager = New(ctx, Options{
			API: s, Clock: clock.RealClock{},
			Node:   func() (types.NodeName, types.UID) { return "n1", "node-uid" },
			Jitter: func(most time.Duration) time.Duration { return most / 5 },
			Record: func(_ *keelsonv1.Pod, eventType, reason, message string) {
				s.events = append(s.events, eventType+" "+reason+": "+message)
			},
			Changed: func(types.UID) { s.mu.Lock(); s.woken++; s.mu.Unlock() },
		})
		what(s)
		stop()
		s.Wait()
		s.source.Shutdown()
	})
}

func (s *story) Requests() toolscache.ListerWatcher { return s.source }

func (s *story) Account(_ context.Context, namespace, name string) (types.UID, error) {
	return types.UID("uid of " + namespace + "/" + name), nil
}

func (s *story) Create(_ context.Context, r *certificatesv1.PodCertificateRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusal != nil {
		return s.refusal
	}
	s.made++
	r.Name = fmt.Sprintf("%s%d", r.GenerateName, s.made)
	r.CreationTimestamp = metav1.Now()
	stored := r.DeepCopy()
	s.source.Add(stored)
	if s.sign != nil {
		time.AfterFunc(time.Second, func() {
			answered := stored.DeepCopy()
			s.sign(answered)
			s.source.Modify(answered)
		})
	}
	return nil
}

func (s *story) Delete(_ context.Context, r *certificatesv1.PodCertificateRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted = append(s.deleted, r.Name)
	s.source.Delete(r)
	return nil
}

func (s *story) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = err
}

func (s *story) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}

// issue signs for a life, to be renewed when half of it is over.
func (s *story) issue(life time.Duration) func(*certificatesv1.PodCertificateRequest) {
	return func(r *certificatesv1.PodCertificateRequest) {
		now := time.Now()
		r.Status.CertificateChain = "a remark\n" + certificate("of "+r.Name)
		r.Status.NotBefore, r.Status.NotAfter = new(metav1.NewTime(now)), new(metav1.NewTime(now.Add(life)))
		r.Status.BeginRefreshAt = new(metav1.NewTime(now.Add(life / 2)))
		r.Status.Conditions = []metav1.Condition{{Type: certificatesv1.PodCertificateRequestConditionTypeIssued, Status: metav1.ConditionTrue}}
	}
}

func certificate(text string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(text)}))
}

func answer(condition, reason, message string) func(*certificatesv1.PodCertificateRequest) {
	return func(r *certificatesv1.PodCertificateRequest) {
		r.Status.Conditions = []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue, Reason: reason, Message: message}}
	}
}

func request(uid types.UID) volumes.CertificateRequest {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: uid}}
	pod.Spec.ServiceAccountName = "robot"
	return volumes.CertificateRequest{Pod: pod, Volume: "tls", Index: 1, Source: &corev1.PodCertificateProjection{
		SignerName: "example.com/signer", KeyType: "ED25519", MaxExpirationSeconds: new(int32(3600)), UserAnnotations: map[string]string{"example.com/a": "b"},
	}}
}

// wantChain asks for a certificate and expects the one that was made for a request.
func (s *story) wantChain(of string) time.Time {
	s.t.Helper()
	key, chain, again, err := s.Bundle(s.t.Context(), request("uid"))
	if err != nil {
		s.t.Fatal(err)
	}
	if want := certificate("of " + of); string(chain) != want {
		s.t.Errorf("chain %q, want %q", chain, want)
	}
	if block, _ := pem.Decode(key); block == nil || block.Type != "PRIVATE KEY" {
		s.t.Errorf("key %q", key)
	}
	return again
}

func (s *story) wantError(text string) {
	s.t.Helper()
	if _, _, _, err := s.Bundle(s.t.Context(), request("uid")); err == nil || err.Error() != text {
		s.t.Errorf("error %v, want %s", err, text)
	}
}

func TestRequestSaysWhoAsks(t *testing.T) {
	tell(t, func(s *story) {
		s.wantChain("req-1")
		got := s.watch.find("shop", "req-1")
		if block, err := x509.ParseCertificateRequest(got.Spec.StubPKCS10Request); err != nil || block.CheckSignature() != nil {
			s.t.Errorf("the proof does not hold: %v", err)
		}
		want := certificatesv1.PodCertificateRequestSpec{
			SignerName: "example.com/signer", PodName: "web", PodUID: "uid", ServiceAccountName: "robot", ServiceAccountUID: "uid of shop/robot",
			NodeName: "n1", NodeUID: "node-uid", MaxExpirationSeconds: new(int32(3600)),
			UnverifiedUserAnnotations: map[string]string{"example.com/a": "b"}, StubPKCS10Request: got.Spec.StubPKCS10Request,
		}
		if diff := cmp.Diff(want, got.Spec); diff != "" {
			s.t.Errorf("request (-want +got):\n%s", diff)
		}
		if owner := got.OwnerReferences[0]; owner.UID != "uid" || owner.APIVersion != "core.keelson.dev/v1" {
			s.t.Errorf("owner %+v", owner)
		}
	})
}

func TestCertificateIsRenewedBeforeItEnds(t *testing.T) {
	tell(t, func(s *story) {
		again := s.wantChain("req-1")
		if wait := time.Until(again); wait < 12*time.Hour || wait > 12*time.Hour+2*time.Minute {
			s.t.Errorf("asks again in %v, want when half of the life is over, and a bit", wait)
		}
		time.Sleep(time.Hour)
		s.wantChain("req-1")
		time.Sleep(time.Until(again))
		s.wantChain("req-1") // the new one is on its way
		time.Sleep(time.Minute)
		s.wantChain("req-2")
		if s.requests() != 2 || len(s.events) != 0 {
			s.t.Errorf("%d requests, events %v", s.requests(), s.events)
		}
	})
}

func TestSignerThatDoesNotAnswer(t *testing.T) {
	tell(t, func(s *story) {
		s.sign = nil
		started := time.Now()
		s.wantError("credential bundle is not issued yet")
		if waited := time.Since(started); waited != patience {
			s.t.Errorf("waited %v, want %v", waited, patience)
		}
		s.wantError("credential bundle is not issued yet")
		if s.requests() != 1 {
			s.t.Errorf("%d requests, want one", s.requests())
		}
		late := s.watch.find("shop", "req-1").DeepCopy()
		s.issue(time.Hour)(late)
		s.source.Modify(late)
		synctest.Wait()
		if s.woken == 0 {
			s.t.Error("the Pod was not woken")
		}
		s.wantChain("req-1")
	})
}

func TestRenewalThatTakesLongTakesNothingAway(t *testing.T) {
	tell(t, func(s *story) {
		again := s.wantChain("req-1")
		s.sign = nil
		for range 100 {
			if again.IsZero() || time.Since(again) > 48*time.Hour {
				break
			}
			time.Sleep(time.Until(again))
			again = s.wantChain("req-1")
		}
		want := []string{"Warning CertificateOverdueForRefresh: PodCertificate refresh overdue", "Warning CertificateExpired: PodCertificate expired"}
		if diff := cmp.Diff(want, s.events); diff != "" {
			s.t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestAnswersThatAreFinal(t *testing.T) {
	tests := map[string]struct{ condition, wantErr, wantEvent string }{
		"denied": {certificatesv1.PodCertificateRequestConditionTypeDenied,
			`PodCertificateRequest was permanently denied: reason="Policy" message="not you"`,
			`Warning Denied: PodCertificateRequest shop/req-1 was denied, reason="Policy", message="not you"`},
		"failed": {certificatesv1.PodCertificateRequestConditionTypeFailed,
			`PodCertificateRequest was permanently failed: reason="Policy" message="not you"`,
			`Warning Failed: PodCertificateRequest shop/req-1 failed, reason="Policy", message="not you"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tell(t, func(s *story) {
				s.sign = answer(tt.condition, "Policy", "not you")
				s.wantError(tt.wantErr)
				s.wantError(tt.wantErr)
				if diff := cmp.Diff([]string{tt.wantEvent}, s.events); diff != "" || s.requests() != 1 {
					s.t.Errorf("%d requests, events (-want +got):\n%s", s.requests(), diff)
				}
			})
		})
	}
}

func TestRequestThatSomebodyDeletedIsMadeAgain(t *testing.T) {
	tell(t, func(s *story) {
		s.sign = nil
		s.wantError("credential bundle is not issued yet")
		s.source.Delete(s.watch.find("shop", "req-1").DeepCopy())
		s.wantError("credential bundle is not issued yet")
		if s.requests() != 1 {
			s.t.Errorf("%d requests, want one until it is sure", s.requests())
		}
		s.sign = s.issue(time.Hour)
		time.Sleep(abandonAfter + maxJitter)
		s.wantChain("req-2")
	})
}

func TestRightToAskArrivesLate(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "podcertificaterequests"}, "", errors.New("not yet"))
	tell(t, func(s *story) {
		s.refuse(forbidden)
		time.AfterFunc(time.Second, func() { s.refuse(nil) })
		s.wantChain("req-1")
	})
	tell(t, func(s *story) {
		s.refuse(forbidden)
		_, _, _, err := s.Bundle(s.t.Context(), request("uid"))
		if !apierrors.IsForbidden(err) || !strings.HasPrefix(err.Error(), "while creating on API: ") {
			s.t.Errorf("error %v", err)
		}
	})
}

func TestOldCertificateIsGoodWhileTheServerIsAway(t *testing.T) {
	tell(t, func(s *story) {
		again := s.wantChain("req-1")
		s.refuse(errors.New("connection refused"))
		time.Sleep(time.Until(again))
		if again = s.wantChain("req-1"); time.Until(again) != retry {
			s.t.Errorf("tries again in %v, want %v", time.Until(again), retry)
		}
		s.refuse(nil)
		time.Sleep(retry)
		s.wantChain("req-1")
		time.Sleep(time.Minute)
		s.wantChain("req-2")
	})
}

func TestOldRequestsGo(t *testing.T) {
	tell(t, func(s *story) {
		s.wantChain("req-1")
		time.Sleep(keep + 2*sweepInterval)
		synctest.Wait()
		if diff := cmp.Diff([]string{"req-1"}, s.deleted); diff != "" {
			s.t.Errorf("deleted (-want +got):\n%s", diff)
		}
		s.wantChain("req-1") // what was issued stays
		s.Forget("uid")
		s.Forget("uid")
		if s.watch != nil || len(s.held) != 0 {
			s.t.Error("watches on although no Pod has a certificate")
		}
	})
}

func TestKeys(t *testing.T) {
	for _, keyType := range []string{"RSA3072", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"} {
		keyPEM, proof, err := newKey(keyType)
		if err != nil {
			t.Errorf("%s: %v", keyType, err)
			continue
		}
		block, _ := pem.Decode(keyPEM)
		if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			t.Errorf("%s: %v", keyType, err)
		}
		if r, err := x509.ParseCertificateRequest(proof); err != nil || r.CheckSignature() != nil {
			t.Errorf("%s: the proof does not hold: %v", keyType, err)
		}
	}
	if _, _, err := newKey("DSA"); err == nil || err.Error() != `unknown key type "DSA"` {
		t.Errorf("error %v", err)
	}
}
