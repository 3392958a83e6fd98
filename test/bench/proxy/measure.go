package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	// probePatience ends one attempt to reach a Service that may not work yet.
	probePatience = 100 * time.Millisecond
	probePause    = 2 * time.Millisecond
	// quiet is left between changes: longer than kube-proxy's and our shortest times
	// between writes, so that neither counts.
	quiet = 1500 * time.Millisecond
	// clients send requests at the same time.
	clients         = 8
	requestPatience = 3 * time.Second
)

// untilAllWork returns the time from start until every probe was answered.
func (s *side) untilAllWork(ctx context.Context, services int, start time.Time) (time.Duration, error) {
	client := s.node.client(probePatience, prober)
	for probe := range probes {
		if err := s.until(ctx, client, probeService(probe, services), listener(probe, 0)); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// until asks a Service until the endpoint answers.
func (s *side) until(ctx context.Context, client *http.Client, service int, want netip.Addr) error {
	for {
		if got, err := ask(ctx, client, clusterIP(service)); err == nil && got == want {
			return nil
		}
		select {
		case <-time.After(probePause):
		case <-s.program.Ended():
			return errors.New("the proxy has ended")
		case <-ctx.Done():
			return fmt.Errorf("Service %d does not lead to %s: %w", service, want, ctx.Err())
		}
	}
}

// changeEndpoints moves probes to their other endpoint and back, one at a time, and
// returns how long each took.
func (s *side) changeEndpoints(ctx context.Context, services, changes int) ([]time.Duration, error) {
	client := s.node.client(probePatience, prober)
	took := make([]time.Duration, 0, changes)
	for i := range changes {
		select {
		case <-time.After(quiet):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		probe := i % probes
		to := listener(probe, 1-i/probes%2)
		start := time.Now()
		if err := s.setEndpoint(ctx, probeService(probe, services), to); err != nil {
			return nil, err
		}
		if err := s.until(ctx, client, probeService(probe, services), to); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

// traffic is what requests through cluster addresses gave.
type traffic struct {
	perSecond float64
	p99       time.Duration
	// failed requests had no answer in time.
	failed int
}

// sendRequests asks all probes in turn from several clients at once.
func (n *namespace) sendRequests(ctx context.Context, services int, howLong time.Duration) traffic {
	var mu sync.Mutex
	var all []time.Duration
	failed := 0
	var group sync.WaitGroup
	start := time.Now()
	for c := range clients {
		client := n.client(requestPatience, n.nodeIP)
		group.Go(func() {
			var took []time.Duration
			failures := 0
			for i := c; time.Since(start) < howLong; i++ {
				begin := time.Now()
				if _, err := ask(ctx, client, clusterIP(probeService(i%probes, services))); err != nil {
					failures++
					continue
				}
				took = append(took, time.Since(begin))
			}
			mu.Lock()
			defer mu.Unlock()
			all, failed = append(all, took...), failed+failures
		})
	}
	group.Wait()
	return traffic{perSecond: float64(len(all)) / time.Since(start).Seconds(), p99: percentile(all, 0.99), failed: failed}
}
