// Package tokens makes tokens of ServiceAccounts end with the Pod or Node that they are
// bound to, and say which it is.
//
// The API server cannot: it looks for built-in Pods and Nodes, which do not exist. The
// gateway sees a token when it is used, when somebody asks whose it is (TokenReview) and
// when one is asked for (TokenRequest, `kubectl create token --bound-object-kind Pod`). The
// API server judges each time first: signature, audience, expiry, account, and whether the
// caller may ask. A token that is used directly at the API server is an ordinary one of its
// account (ADR 0046).
//
// The package reads Pods and Nodes in the gateway's name, stores nothing and never writes, so
// a crash leaves nothing to recover.
package tokens
