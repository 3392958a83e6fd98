// Package queue holds the Pods that are to be placed: active ones in order of priority
// and arrival, and waiting ones until their time or an event that may help them.
//
// It knows nothing of Nodes; whether an event may help is for the plug-ins that refused
// the Pod. It keeps nothing that the API does not hold: after a crash every Pod without
// a Node is active again.
package queue
