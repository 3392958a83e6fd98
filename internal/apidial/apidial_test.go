package apidial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

var errNoRoute = errors.New("no route to host")

// server accepts connections from a time on.
type server struct {
	opens    time.Time
	fault    error // instead of a refusal
	attempts int
}

func (s *server) dial(context.Context, string, string) (net.Conn, error) {
	s.attempts++
	if time.Now().Before(s.opens) {
		return nil, &net.OpError{Op: "dial", Err: s.fault}
	}
	client, _ := net.Pipe()
	return client, nil
}

func TestPatientDial(t *testing.T) {
	refused := fmt.Errorf("connect: %w", syscall.ECONNREFUSED)
	for name, tc := range map[string]struct {
		outage, deadline time.Duration
		fault            error
		wantErr          error
		wantAfter        time.Duration
	}{
		"a server that is there":               {fault: refused},
		"a server that comes back":             {outage: 2 * time.Minute, fault: refused, wantAfter: 2 * time.Minute},
		"a request with a deadline":            {outage: time.Hour, fault: refused, deadline: 10 * time.Second, wantErr: context.DeadlineExceeded, wantAfter: 10 * time.Second},
		"an error that is no refusal is final": {outage: time.Hour, fault: errNoRoute, wantErr: errNoRoute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tc.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.deadline)
					defer cancel()
				}
				start := time.Now()
				s := &server{opens: start.Add(tc.outage), fault: tc.fault}
				conn, err := patient(s.dial, clock.RealClock{}, klog.Background())(ctx, "tcp", "api:6443")
				if !errors.Is(err, tc.wantErr) {
					t.Errorf("error %v, want %v", err, tc.wantErr)
				}
				if (conn != nil) != (tc.wantErr == nil) {
					t.Errorf("connection %v with error %v", conn, err)
				}
				if got := time.Since(start); got < tc.wantAfter || got > tc.wantAfter+retryInterval {
					t.Errorf("returned after %s, want %s", got, tc.wantAfter)
				}
			})
		})
	}
}
