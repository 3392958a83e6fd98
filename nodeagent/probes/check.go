package probes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// maxOutput is what is read of an answer or of a command's output, in bytes.
	maxOutput = 10 << 10
	// tries is how often a probe is made that could not be made at all.
	tries = 3

	maxPort = 65535
)

type outcome int

const (
	success outcome = iota
	warning
	failure
)

// finding is what one look found; output goes into the event.
type finding struct {
	outcome outcome
	output  string
}

// checker makes single probes. An error says that nothing was found out.
type checker struct {
	executor  Executor
	transport http.RoundTripper
}

func newChecker(e Executor) checker { return checker{executor: e, transport: newTransport()} }

func (c checker) checkWithRetries(ctx context.Context, spec *corev1.Probe, t Target) (finding, error) {
	var err error
	for range tries {
		var found finding
		if found, err = c.check(ctx, spec, t); err == nil || ctx.Err() != nil {
			return found, err
		}
	}
	return finding{}, err
}

func (c checker) check(ctx context.Context, spec *corev1.Probe, t Target) (finding, error) {
	timeout := time.Duration(max(spec.TimeoutSeconds, 1)) * time.Second
	switch {
	case spec.Exec != nil:
		return c.execute(ctx, spec.Exec.Command, t, timeout)
	case spec.HTTPGet != nil:
		return c.get(ctx, spec.HTTPGet, t, timeout)
	case spec.TCPSocket != nil:
		return connect(ctx, spec.TCPSocket, t, timeout)
	case spec.GRPC != nil:
		return askHealth(ctx, spec.GRPC, t, timeout)
	default:
		return finding{}, errors.New("the probe has no handler: give it exec, httpGet, tcpSocket or grpc")
	}
}

// ResolvePort is a port's number; a name is that of one of the container's ports.
func ResolvePort(port intstr.IntOrString, c *corev1.Container) (int, error) {
	number := port.IntValue()
	if port.Type == intstr.String {
		found := false
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				number, found = int(p.ContainerPort), true
				break
			}
		}
		if !found {
			return 0, fmt.Errorf("port %q not found", port.StrVal)
		}
	}
	if number < 1 || number > maxPort {
		return 0, fmt.Errorf("invalid port number: %v", number)
	}
	return number, nil
}
