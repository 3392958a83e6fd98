package network

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// DialPod connects to a TCP port of the Pod's loopback interface, as its own programs
// would: to 127.0.0.1 and, when that fails, to ::1.
func (n *Network) DialPod(ctx context.Context, uid types.UID, port int32) (net.Conn, error) {
	if err := validateUID(uid); err != nil {
		return nil, err
	}
	path := n.netNSPath(uid)
	var conn net.Conn
	// Only the making of the socket has to happen inside; it stays there for its life.
	err := n.kernel.InNamespace(path, func(netlinkx.Handle) (err error) {
		conn, err = DialLoopback(ctx, port)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("failed to execute portforward in network namespace %q: %w", path, err)
	}
	return conn, nil
}

// DialLoopback does the same for the network namespace of the calling thread: the
// machine's own, for whoever shares it.
func DialLoopback(ctx context.Context, port int32) (net.Conn, error) {
	var dialer net.Dialer
	text := strconv.Itoa(int(port))
	conn, err4 := dialer.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", text))
	if err4 == nil {
		return conn, nil
	}
	conn, err6 := dialer.DialContext(ctx, "tcp6", net.JoinHostPort("::1", text))
	if err6 == nil {
		return conn, nil
	}
	return nil, fmt.Errorf("failed to connect to localhost:%d, IPv4: %w IPv6: %w", port, err4, err6)
}
