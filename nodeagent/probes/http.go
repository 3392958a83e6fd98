package probes

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// userAgent tells servers who asks; programs look for kube-probe.
	userAgent = "kube-probe/1.37"

	maxRedirects = 10

	tlsHandshakeTimeout = 10 * time.Second
)

// NewRequest makes the request that an HTTP probe or hook describes. The container's
// ports give names their numbers; agent is the User-Agent unless the headers name one.
func NewRequest(ctx context.Context, action *corev1.HTTPGetAction, c *corev1.Container, podIP, agent string) (*http.Request, error) {
	port, err := ResolvePort(action.Port, c)
	if err != nil {
		return nil, err
	}
	host := action.Host
	if host == "" {
		host = podIP
	}
	scheme := strings.ToLower(string(action.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	target, err := url.Parse(action.Path)
	if err != nil {
		target = &url.URL{Path: action.Path} // as it stands: the server may understand it
	}
	target.Scheme, target.Host = scheme, net.JoinHostPort(host, strconv.Itoa(port))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	setHeaders(request, action.HTTPHeaders, agent)
	return request, nil
}

// setHeaders applies the action's headers. Accept is */* unless they say otherwise, and
// left out if they name it without a value.
func setHeaders(request *http.Request, wanted []corev1.HTTPHeader, agent string) {
	for _, h := range wanted {
		request.Header.Add(h.Name, h.Value)
	}
	if _, named := request.Header["User-Agent"]; !named {
		request.Header.Set("User-Agent", agent)
	}
	if accept, named := request.Header["Accept"]; !named {
		request.Header.Set("Accept", "*/*")
	} else if accept[0] == "" {
		request.Header.Del("Accept")
	}
	request.Host = request.Header.Get("Host")
}

// newTransport knows no proxy, keeps no connection and trusts any certificate: it is
// the container that is asked, whoever it says it is.
func newTransport() *http.Transport {
	return &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // upstream's rule: probes do not verify
		TLSHandshakeTimeout: tlsHandshakeTimeout,
		DisableKeepAlives:   true,
		DisableCompression:  true,
		ForceAttemptHTTP2:   true,
		DialContext:         dialer().DialContext,
	}
}

// dialer gives closed connections a second at most, so that many probes do not fill the
// table of connections that wait for their end.
func dialer() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if controlErr := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 1})
		}); controlErr != nil {
			return controlErr
		}
		return err
	}}
}

// SameHost follows redirects that stay on the host that was asked first.
func SameHost(request *http.Request, via []*http.Request) error {
	switch {
	case request.URL.Hostname() != via[0].URL.Hostname():
		return http.ErrUseLastResponse
	case len(via) >= maxRedirects:
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	default:
		return nil
	}
}

func (c checker) get(ctx context.Context, action *corev1.HTTPGetAction, t Target, timeout time.Duration) (finding, error) {
	request, err := NewRequest(ctx, action, t.Container, t.PodIP, userAgent)
	if err != nil {
		return finding{}, err
	}
	client := &http.Client{Transport: c.transport, Timeout: timeout, CheckRedirect: SameHost}
	response, err := client.Do(request)
	if err != nil {
		return finding{failure, err.Error()}, nil
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxOutput))
	if err != nil {
		return finding{}, fmt.Errorf("reading the answer: %w", err)
	}
	text := strings.ToValidUTF8(string(body), "\uFFFD")
	switch code := response.StatusCode; {
	case code >= http.StatusOK && code < http.StatusMultipleChoices:
		return finding{success, text}, nil
	case code >= http.StatusMultipleChoices && code < http.StatusBadRequest:
		return finding{warning, "Probe terminated redirects, Response body: " + text}, nil
	default:
		return finding{failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", code)}, nil
	}
}

func connect(ctx context.Context, action *corev1.TCPSocketAction, t Target, timeout time.Duration) (finding, error) {
	port, err := ResolvePort(action.Port, t.Container)
	if err != nil {
		return finding{}, err
	}
	host := action.Host
	if host == "" {
		host = t.PodIP
	}
	return dial(ctx, net.JoinHostPort(host, strconv.Itoa(port)), timeout), nil
}

// dial finds out whether somebody accepts connections; what follows does not count.
func dial(ctx context.Context, address string, timeout time.Duration) finding {
	d := dialer()
	d.Timeout = timeout
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return finding{failure, err.Error()}
	}
	_ = conn.Close()
	return finding{outcome: success}
}
