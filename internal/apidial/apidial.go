// Package apidial connects to the API server in a way that makes its absence cost
// no more time than it lasts.
//
// A reflector whose request fails waits before it asks again, up to a minute after
// a longer outage, and each of them by itself: for that minute a program acts on
// Services of before the outage and Pods of after it. Here the request does not
// fail: it waits inside the dial until the server accepts connections again, and
// all watches resume together. It keeps no state and needs no recovery.
package apidial

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// retryInterval is how often a server that refuses connections is tried.
	retryInterval = 250 * time.Millisecond
	// connectTimeout bounds one attempt, as client-go's own dialer does.
	connectTimeout = 30 * time.Second
)

// Dial has the type of net.Dialer.DialContext.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Patient makes clients of config wait for an API server that refuses connections.
// A request with a deadline still ends then.
func Patient(config *rest.Config, log klog.Logger) {
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: connectTimeout}
	config.Dial = patient(dialer.DialContext, clock.RealClock{}, log)
}

// patient repeats dial while the server's machine answers that nobody listens; other
// errors are returned.
func patient(dial Dial, clock clock.Clock, log klog.Logger) Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		start := clock.Now()
		for waited := false; ; waited = true {
			conn, err := dial(ctx, network, address)
			if err == nil && waited {
				log.Info("The API server accepts connections again", "address", address, "after", clock.Since(start).String())
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				return conn, err
			}
			if !waited {
				log.Info("The API server refuses connections, waiting for it", "address", address)
			}
			select {
			case <-ctx.Done():
				return nil, errors.Join(ctx.Err(), err)
			case <-clock.After(retryInterval):
			}
		}
	}
}
