// Package resourcemetrics serves the group metrics.k8s.io: what nodes and Pods use of
// CPU and memory, as the agents measure it. `kubectl top` and autoscalers read it.
//
// Every request asks the agents anew, all of them at once and each for a bounded time.
// An agent that does not answer is left out and logged: metrics of the others are worth
// more than an error. The package stores nothing and never writes.
package resourcemetrics
