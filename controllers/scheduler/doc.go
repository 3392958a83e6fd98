// Package scheduler gives every unbound Pod a Node, and makes less important Pods go
// where that is the only way.
//
// One goroutine takes Pods from a queue, filters and scores the Nodes of a snapshot, and
// assumes the result; writes run beside it. Binding is one patch that sets spec.nodeName
// and the finalizer keelson.dev/pod and that fails when anybody changed the Pod
// meanwhile. It never looks at the machines themselves, never deletes a Pod of the same
// or a higher priority, and never touches a Pod that names another scheduler.
//
// It keeps nothing that the API does not hold. A scheduler that is killed between
// assuming and binding forgets the assumption; the next leader lists Pods and Nodes and
// starts from there. Two at once cannot both bind: the second patch conflicts. One that
// is killed between two victims leaves the Pod that they go for waiting with its
// nominated Node in status; the next leader looks again for what is still in the way.
package scheduler
