// Package scheduler gives every unbound Pod a Node.
//
// One goroutine takes Pods from a queue, filters and scores the Nodes of an
// immutable snapshot, and assumes the result; binding is the only write and runs
// beside it: one patch that sets spec.nodeName and the finalizer keelson.dev/pod
// and that fails when anybody changed the Pod meanwhile. It never evicts, never
// looks at the machines themselves, and never touches a Pod that names another
// scheduler.
//
// It keeps nothing that the API does not hold. A scheduler that is killed between
// assuming and binding forgets the assumption; the next leader lists Pods and Nodes
// and starts from there. Two at once cannot both bind: the second patch conflicts.
package scheduler
