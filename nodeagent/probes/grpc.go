package probes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	corev1 "k8s.io/api/core/v1"
)

// askHealth asks the standard health service, without encryption. Whatever goes wrong
// is a failure of the container.
func askHealth(ctx context.Context, action *corev1.GRPCAction, t Target, timeout time.Duration) (finding, error) {
	address := net.JoinHostPort(t.PodIP, strconv.Itoa(int(action.Port)))
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent(userAgent), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer().DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		return finding{}, fmt.Errorf("preparing the connection to %s: %w", address, err)
	}
	defer func() { _ = conn.Close() }()

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if !awaitReady(ctx, conn) {
		return finding{failure, fmt.Sprintf("timeout: failed to connect service %q within %v: %v", address, timeout, context.DeadlineExceeded)}, nil
	}
	service := ""
	if action.Service != nil {
		service = *action.Service
	}
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: service})
	if err != nil {
		return finding{failure, healthError(err, timeout)}, nil
	}
	if answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return finding{failure, fmt.Sprintf("service unhealthy (responded with %q)", answer.GetStatus().String())}, nil
	}
	return finding{success, "service healthy"}, nil
}

// awaitReady connects, again and again until ctx ends.
func awaitReady(ctx context.Context, conn *grpc.ClientConn) bool {
	for {
		conn.Connect()
		state := conn.GetState()
		if state == connectivity.Ready {
			return true
		}
		if !conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
}

func healthError(err error, timeout time.Duration) string {
	switch answer, _ := status.FromError(err); {
	case answer.Code() == codes.Unimplemented:
		return "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): " + answer.Message()
	case answer.Code() == codes.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("timeout: health rpc did not complete within %v", timeout)
	default:
		return fmt.Sprintf("error: health rpc probe failed: %v", err)
	}
}
