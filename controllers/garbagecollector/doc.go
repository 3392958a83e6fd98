// Package garbagecollector deletes objects whose owners are gone, and carries out
// foreground and orphaning deletion, for every kind that the API server can list,
// watch and delete. A bare API server does none of this.
//
// It keeps a graph of identities and owner references only, filled by watches on
// metadata. Before it deletes anything it reads the object and its absent owners
// live: the graph alone never costs an object its life. It deletes with the UID and
// resource version it judged by, so that an object that changed is judged again.
//
// The graph is rebuilt from lists after a crash; nothing else is remembered.
package garbagecollector
