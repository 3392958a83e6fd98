package probes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/nodeagent/env"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

var errTimeout = errors.New("the probe's time is over")

// execute runs command in the container. $(NAME) stands for what the container's own
// variables say as they are written, without those that come from elsewhere.
func (c checker) execute(ctx context.Context, command []string, t Target, timeout time.Duration) (finding, error) {
	command = expand(command, t.Container.Env)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	out := &Output{}
	err := c.executor.Exec(ctx, t.ID, command, runtime.Streams{Stdout: out, Stderr: out})
	var exit *runtime.ExitError
	switch {
	case err == nil:
		return finding{success, out.String()}, nil
	case errors.As(err, &exit):
		return finding{failure, out.String()}, nil
	case errors.Is(context.Cause(ctx), errTimeout):
		return finding{failure, fmt.Sprintf("command timed out: %q timed out after %s", strings.Join(command, " "), timeout)}, nil
	default:
		return finding{}, err
	}
}

func expand(command []string, variables []corev1.EnvVar) []string {
	values := make(map[string]string, len(variables))
	for _, v := range variables {
		values[v.Name] = v.Value
	}
	expanded := make([]string, len(command))
	for i, text := range command {
		expanded[i] = env.Expand(text, func(name string) (string, bool) {
			value, ok := values[name]
			return value, ok
		})
	}
	return expanded
}

// Output keeps the beginning of what is written and lets the rest pass: a command
// that says much is not ended for it. Both outputs of a command may write.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(p[:min(len(p), maxOutput-o.buf.Len())])
	return len(p), nil
}

// String is what was kept, as valid text.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.ToValidUTF8(o.buf.String(), "\uFFFD")
}
