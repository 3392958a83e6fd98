// Package admission is the mutating webhook for objects that people write. It asks
// the API server itself what upstream would make of the object: the same JSON as
// the built-in kind, with dryRun=All, in Keelson's own namespace. The answer
// carries upstream's defaults, or upstream's complete list of errors; to those the
// package adds what only Keelson knows: fields that are not implemented, fields
// that may not change, and its own address and port ranges. All errors of an
// object come at once.
//
// Files: handler.go runs one request; oracle.go does the dry run; pod.go,
// service.go and others hold the rules of one kind as pure functions; certificate*.go
// keep the serving certificate.
//
// The package never stores anything but its certificate's Secret and the CA in its
// own registration, never decodes the object before upstream has seen its JSON
// (`cpu: 0.5` and wrong types get upstream's answer), and never looks at requests
// of the manager or of node agents: the registration's matchConditions leave them
// out. Every replica serves. A replica that dies loses nothing: the API server
// reports the failed call to the client, who asks again.
package admission
