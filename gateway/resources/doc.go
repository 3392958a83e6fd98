// Package resources serves the verbs on the kinds of the gateway's table: it turns a
// request on pods into requests on pods.core.keelson.dev and the answers back.
//
// Reads, and writes that say all there is to say, are one request to the API server and
// are streamed. What upstream's storage does and a custom resource's does not is done
// here, by reading and writing under optimistic concurrency: strategic merge patches,
// unconditional updates, graceful deletion of Pods, bindings, evictions, the parts of
// metadata that a status write may change, and the addresses that a Service has as soon
// as it is created.
//
// Every decision is a pure function of the stored object and the request (plan…,
// check…); the IO around it repeats the whole decision when somebody else wrote in
// between. The package holds no state, answers nothing from memory, and decides nothing
// about who may do what: the filters have done that on the upstream names. A gateway
// that dies between two writes leaves an object that the next request of the same kind
// sets right: a Pod with a grace annotation and no deletion, whose annotation the next
// deletion replaces, or a Pod being deleted that still has its finalizer, which its node
// removes.
package resources
