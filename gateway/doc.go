// Package gateway serves the plain Kubernetes API in front of Keelson's custom
// resources, so that stock clients work unmodified.
//
// New returns the handler of one request that was authenticated, authorized and given
// its RequestInfo by the filters in front of it. It sends the request one of five ways:
// kinds of the table to resources, their streams (log, exec, proxy, …) to streams, the
// group metrics.k8s.io to resourcemetrics, discovery and OpenAPI documents to discovery,
// and everything else untouched to the API server (passthrough).
//
// The package holds no state: a gateway that is killed loses the requests that it was
// serving and nothing else, and any number of them serve side by side. It never caches
// objects and never answers for a kind of the table without having been asked under the
// identity that the filters established.
package gateway
