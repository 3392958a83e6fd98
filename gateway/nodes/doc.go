// Package nodes finds the agent of a node and reaches it.
//
// A Locator reads the Node under the gateway's own identity, chooses an address and a
// port from its status as an API server does for a kubelet, and holds the one transport
// over which all agents are reached: TLS with the agent's certificate verified, and the
// gateway's client certificate or token. What it knows of a node it forgets after
// seconds, and at once when a connection to that address fails.
//
// The package never sends a caller's credentials to an agent. It holds no state that a
// restart would lose.
package nodes
