// Package filters stands in front of the gateway's handler in both modes: it names
// every request, refuses what no Kubernetes client sends (paths that mean two things,
// headers that smuggle an identity or a second request, bodies without end), describes
// the rest by a RequestInfo, and leaves one line and its metrics behind for each.
//
// It never decides who may do what: authentication and authorization belong to package
// server. A request that it refuses is answered here and reaches nobody behind it. It
// holds counters only, so there is nothing to recover after a crash.
package filters
