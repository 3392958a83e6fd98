// Package join makes this machine a node of a cluster that runs elsewhere, keeps the
// node's programs up, and takes the machine out again.
//
// It trusts nobody whose authority has not the public key that a person named, and sends
// the token to nobody else. It keeps neither the token nor any right beyond the node's own
// certificate, and changes nothing in the cluster but what the token allows: it asks for
// that certificate. Recovery after a crash: the settings are written last; without them
// the next join starts over and removes what the earlier one left. The supervisor works
// from the settings alone, and leave works from any state, again and again.
package join
