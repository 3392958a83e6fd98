// Package server is the gateway as a service: TLS, authentication by client certificate
// or token, authorization on the upstream names, impersonation towards the API server,
// limits, health, and an end that clients hardly notice.
//
// Who sent a request is decided once, here, and travels in the request's context. The
// transport to the API server writes it into impersonation headers; a request whose
// user is not known is never sent, so that a mistake in a handler cannot lend the
// gateway's own rights to anybody. What the gateway serves itself (the kinds of the
// table, metrics.k8s.io) is authorized here by SubjectAccessReview on the names that
// the client used; everything else is authorized by the API server.
//
// The package keeps no state but caches of reviews, which live for seconds. Any number
// of replicas run side by side, and one that was killed is replaced by starting it.
package server
