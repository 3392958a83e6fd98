// Package state is the scheduler's picture of the cluster: Nodes with the Pods that
// they hold, nominations and the labels of namespaces.
//
// Cache follows events and may be used from any goroutine; Snapshot belongs to the one
// goroutine that places Pods and takes over what changed since it looked last, so that
// a placement costs what changed and not what exists. PodInfo and NodeInfo are never
// changed once they were handed out.
//
// It decides nothing and writes nothing. Everything in it comes from the API: after a
// crash the next process fills it from its first lists.
package state
