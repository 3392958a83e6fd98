// Package streams serves what of the plain Kubernetes API is a stream and not an
// object: the logs of Pods, exec, attach and port-forward, and the proxies to Pods,
// Services and nodes.
//
// A request is checked as an API server checks it, in the same words, and relayed: to
// the agent of the Pod's node, or for a proxy to the Pod, an endpoint of the Service, or
// the node. The package never buffers a stream, never follows a redirect on the way to
// an agent, and never passes a caller's credentials on. It holds no state: what a killed
// gateway was relaying ends on both sides, and clients begin anew as they do with an API
// server.
package streams
