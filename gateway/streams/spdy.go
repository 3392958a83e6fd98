package streams

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	wire "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/tools/remotecommand"
	clientspdy "k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/keelson-dev/keelson/gateway/nodes"
)

// pingPeriod is how often an agent is asked whether it is still there.
const pingPeriod = 5 * time.Second

// errNoStatus is the end of a command whose agent did not say how it ended.
var errNoStatus = errors.New("the connection to the node ended before the command's status came")

// dialAgent returns an executor that reaches the agent at location by SPDY, in the
// gateway's name, and follows no redirect.
func dialAgent(agent *nodes.Agent, location *url.URL) (remotecommand.Executor, error) {
	location, transport := agent.Dialable(location)
	roundTripper, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{UpgradeTransport: transport, PingPeriod: pingPeriod})
	if err != nil {
		return nil, fmt.Errorf("prepare the connection to the node: %w", err)
	}
	upgrader := clientspdy.NewUpgraderForStreaming(statusUpgrader{roundTripper})
	return remotecommand.NewSPDYExecutorRejectRedirects(roundTripper, upgrader, http.MethodPost, location)
}

// statusUpgrader makes connections on which a missing status is an error.
type statusUpgrader struct{ httpstream.UpgradeRoundTripper }

// NewConnection takes over the connection of an agent's answer.
func (u statusUpgrader) NewConnection(response *http.Response) (httpstream.Connection, error) {
	conn, err := u.UpgradeRoundTripper.NewConnection(response)
	if err != nil {
		return nil, err
	}
	// Before version 4 the end of the stream was how a success looked.
	told := []string{wire.StreamProtocolV4Name, wire.StreamProtocolV5Name}
	if !slices.Contains(told, response.Header.Get(httpstream.HeaderProtocolVersion)) {
		return conn, nil
	}
	return statusConnection{conn}, nil
}

type statusConnection struct{ httpstream.Connection }

// CreateStream opens a stream.
func (c statusConnection) CreateStream(headers http.Header) (httpstream.Stream, error) {
	stream, err := c.Connection.CreateStream(headers)
	if err != nil || headers.Get(corev1.StreamType) != corev1.StreamTypeError {
		return stream, err
	}
	return &statusStream{Stream: stream}, nil
}

// RemoveStreams hands the streams back as the connection knows them.
func (c statusConnection) RemoveStreams(streams ...httpstream.Stream) {
	for i := range streams {
		if wrapped, ok := streams[i].(*statusStream); ok {
			streams[i] = wrapped.Stream
		}
	}
	c.Connection.RemoveStreams(streams...)
}

// statusStream is the stream in which the command's status comes, a success included.
type statusStream struct {
	httpstream.Stream
	any bool
}

func (s *statusStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	s.any = s.any || n > 0
	if errors.Is(err, io.EOF) && !s.any {
		return n, errNoStatus
	}
	return n, err
}
