// Package replicas keeps the right number of Pods for one owner: the engine behind
// every workload that wants N interchangeable copies of one template
// (ReplicationController, ReplicaSet).
//
// It is also the frame of their controllers: Add wires a Kind, which says how its
// objects are read and how their status is written.
//
// Plan decides, from the Pods that an owner could have, which to adopt, release and
// delete and how many to create; it is pure. Engine executes a plan. The package
// must never learn what kind the owner is beyond that, and it keeps no memory between two
// calls: there are no expectations. What makes that safe is that the caller's client
// reads its own writes (docs/adr/0002-consistency.md).
//
// After a crash nothing is lost: whatever part of a plan was executed is visible in
// the API, and the next plan contains the rest. Two engines at work for one owner (a
// change of leadership) can create too many Pods for a moment; the next plan of
// either deletes the surplus.
package replicas
