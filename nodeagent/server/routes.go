package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// routes are the paths of the kubelet.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.getHealth)
	mux.HandleFunc("GET /healthz/ping", s.getHealth)
	mux.HandleFunc("GET /pods", s.getPods)
	mux.HandleFunc("GET /pods/{$}", s.getPods)
	if s.RunningPods != nil {
		mux.HandleFunc("GET /runningpods/{$}", s.getRunningPods)
	}
	if s.Configuration != nil {
		mux.HandleFunc("GET /configz", s.getConfiguration)
	}
	mux.HandleFunc("GET /stats/summary", s.getSummary)
	mux.HandleFunc("POST /stats/summary", s.getSummary)
	mux.Handle("GET /metrics", metrics(func(context.Context) prometheus.Gatherer { return s.Metrics }))
	mux.Handle("GET /metrics/resource", metrics(s.Statistics.Resource))
	mux.Handle("GET /metrics/cadvisor", metrics(s.Statistics.Container))
	mux.HandleFunc("GET /logs/", s.getHostLog)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.getContainerLog)
	commands, forward := s.Streamer != nil, s.PortForward != nil
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{container}", only(commands, s.getExec))
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{uid}/{container}", only(commands, s.getExec))
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{container}", only(commands, s.getAttach))
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{uid}/{container}", only(commands, s.getAttach))
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}", only(forward, s.getPortForward))
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}/{uid}", only(forward, s.getPortForward))
	}
	mux.HandleFunc("POST /run/{namespace}/{pod}/{container}", only(commands, s.getRun))
	mux.HandleFunc("POST /run/{namespace}/{pod}/{uid}/{container}", only(commands, s.getRun))
	return mux
}

// only answers in the place of a handler that this node does not have.
func only(possible bool, handler http.HandlerFunc) http.HandlerFunc {
	if possible {
		return handler
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotImplemented, "the container runtime of this node cannot do that")
	}
}

func (s *Server) getHealth(w http.ResponseWriter, _ *http.Request) {
	if s.Healthy != nil {
		if err := s.Healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	fmt.Fprint(w, "ok")
}

func metrics(from func(context.Context) prometheus.Gatherer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		promhttp.HandlerFor(from(r.Context()), promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(w, r)
	})
}
