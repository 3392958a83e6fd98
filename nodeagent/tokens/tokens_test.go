package tokens

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/volumes"
)

// fakeIssuer numbers its tokens.
type fakeIssuer struct {
	issued, unbound, asked int
	err                    error
	audiences              []string
}

func (f *fakeIssuer) Issue(_ context.Context, namespace, account string, r *authenticationv1.TokenRequest) error {
	f.asked++
	if f.err != nil {
		return f.err
	}
	f.audiences = r.Spec.Audiences
	if len(f.audiences) == 0 {
		f.unbound++
		r.Spec.Audiences = []string{"api"}
		r.Status.Token = "of nobody"
		return nil
	}
	f.issued++
	r.Status.Token = fmt.Sprintf("%s/%s-%d", namespace, account, f.issued)
	r.Status.ExpirationTimestamp = metav1.NewTime(time.Now().Add(time.Duration(*r.Spec.ExpirationSeconds) * time.Second))
	return nil
}

var hour = volumes.TokenRequest{Pod: "uid", PodName: "p", Namespace: "ns", Account: "robot", ExpirationSeconds: 3600}

func inTime(t *testing.T, body func(t *testing.T, m *Manager, issuer *fakeIssuer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		issuer := &fakeIssuer{}
		body(t, NewManager(issuer, clock.RealClock{}), issuer)
	})
}

func TestTokenIsRenewedInTime(t *testing.T) {
	inTime(t, func(t *testing.T, m *Manager, _ *fakeIssuer) {
		start := time.Now()
		var got []string
		for _, at := range []time.Duration{0, 47 * time.Minute, 48 * time.Minute, 95 * time.Minute, 97 * time.Minute} {
			time.Sleep(at - time.Since(start))
			token, refresh, err := m.Token(t.Context(), hour)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s until %v", token, refresh.Sub(start)))
		}
		want := []string{"ns/robot-1 until 48m0s", "ns/robot-1 until 48m0s", "ns/robot-2 until 1h36m0s", "ns/robot-2 until 1h36m0s", "ns/robot-3 until 2h25m0s"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("tokens (-want +got):\n%s", diff)
		}
	})
}

func TestLongLivedTokenIsRenewedDaily(t *testing.T) {
	inTime(t, func(t *testing.T, m *Manager, _ *fakeIssuer) {
		request := hour
		request.ExpirationSeconds = 7 * 24 * 3600
		if _, refresh, err := m.Token(t.Context(), request); err != nil || time.Until(refresh) != 24*time.Hour {
			t.Errorf("refresh in %v, %v", time.Until(refresh), err)
		}
	})
}

func TestGoodTokenOutlivesAnOutage(t *testing.T) {
	inTime(t, func(t *testing.T, m *Manager, issuer *fakeIssuer) {
		if _, _, err := m.Token(t.Context(), hour); err != nil {
			t.Fatal(err)
		}
		issuer.err = errors.New("connection refused")
		time.Sleep(50 * time.Minute)
		token, refresh, err := m.Token(t.Context(), hour)
		if err != nil || token != "ns/robot-1" || time.Until(refresh) != time.Minute {
			t.Errorf("got %s, again in %v, %v; want the old token for a minute", token, time.Until(refresh), err)
		}
		time.Sleep(11 * time.Minute)
		if _, _, err := m.Token(t.Context(), hour); err == nil || err.Error() != "failed to fetch token: connection refused" {
			t.Errorf("a token that has ended was given, or %v", err)
		}
	})
}

func TestRightToAskArrivesLate(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts"}, "robot", errors.New("not yet"))
	inTime(t, func(t *testing.T, m *Manager, issuer *fakeIssuer) {
		issuer.err = forbidden
		time.AfterFunc(time.Second, func() { issuer.err = nil })
		if token, _, err := m.Token(t.Context(), hour); err != nil || token != "ns/robot-1" {
			t.Errorf("got %s, %v", token, err)
		}
	})
	inTime(t, func(t *testing.T, m *Manager, issuer *fakeIssuer) {
		issuer.err = forbidden
		started := time.Now()
		if _, _, err := m.Token(t.Context(), hour); !apierrors.IsForbidden(err) || time.Since(started) > patience {
			t.Errorf("error %v after %v", err, time.Since(started))
		}
		if issuer.asked > 30 {
			t.Errorf("asked %d times", issuer.asked)
		}
	})
}

func TestPodsShareNoTokens(t *testing.T) {
	inTime(t, func(t *testing.T, m *Manager, issuer *fakeIssuer) {
		other := hour
		other.Pod, other.PodName, other.Audience = "other", "q", "vault"
		first, _, err := m.Token(t.Context(), hour)
		second, _, err2 := m.Token(t.Context(), other)
		if err := errors.Join(err, err2); err != nil || first == second || !cmp.Equal(issuer.audiences, []string{"vault", "https://keelson.dev/bound-to/pods/q/other"}) {
			t.Errorf("got %s and %s for %v, %v", first, second, issuer.audiences, err)
		}
		m.Forget("uid")
		if third, _, _ := m.Token(t.Context(), hour); third == first {
			t.Error("a forgotten token was given again")
		}
		if again, _, _ := m.Token(t.Context(), other); again != second {
			t.Error("the token of another Pod was forgotten, too")
		}
	})
}

func TestTokensForTheAPIServerAreBoundToTheirPod(t *testing.T) {
	inTime(t, func(t *testing.T, m *Manager, issuer *fakeIssuer) {
		other := hour
		other.Pod, other.PodName = "other", "q"
		for request, want := range map[volumes.TokenRequest]string{hour: "pods/p/uid", other: "pods/q/other"} {
			if _, _, err := m.Token(t.Context(), request); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"api", "https://keelson.dev/bound-to/" + want}, issuer.audiences); diff != "" {
				t.Errorf("audiences (-want +got):\n%s", diff)
			}
		}
		if issuer.unbound != 1 {
			t.Errorf("asked %d times whom the API server's tokens are for", issuer.unbound)
		}
		time.Sleep(ownAge + time.Second)
		m.Forget(hour.Pod)
		if _, _, err := m.Token(t.Context(), hour); err != nil || issuer.unbound != 2 {
			t.Errorf("asked %d times after a while, %v", issuer.unbound, err)
		}
	})
}
