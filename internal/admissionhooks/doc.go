// Package admissionhooks evaluates what people configure in admissionregistration.k8s.io
// (webhooks and policies) for Keelson's kinds under their plain names. The API server
// stores Pods as pods.core.keelson.dev, so a rule that names "pods" of the core group
// means nothing to it; here the same object is shown to upstream's own admission plug-ins
// as the built-in kind.
//
// A rule counts when it names a group of the gateway's table. What the API server
// evaluates by itself, because another rule of the same hook names "*" or Keelson's own
// group, is left out, so that no hook is called twice for one write (rules.go).
//
// The package never changes a configuration, never stores anything, and never decides by
// itself: decisions, and their words, are the plug-ins'. The plug-ins are built when the
// first hook appears that counts; until then a request costs one look into a set. After a
// crash there is nothing to recover: all there is comes from watches.
package admissionhooks
