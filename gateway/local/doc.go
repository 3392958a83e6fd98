// Package local is the gateway for one person: it listens on loopback behind a random
// token, acts with the caller's own kubeconfig credentials and nothing more, and ends
// with the command that started it. `kubectl keelson …` runs stock kubectl through one.
//
// The API server decides about every request, as it would without the gateway. Nobody
// but the holder of the token gets in: the port alone is open to every user of the
// machine. What it writes (a kubeconfig of mode 0600) is removed at the end; left over
// after a kill, it leads to a port where nobody listens, with a token that nobody
// accepts.
package local
