package staticpods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// urlTimeout bounds one request for manifests.
const urlTimeout = 10 * time.Second

// URL reads manifests from a web server.
type URL struct {
	// Address is asked with Header every Interval.
	Address string
	Header  http.Header
	Node    string

	Interval time.Duration
	Clock    clock.WithTicker
	Report   Report

	last     []byte
	problems problems
}

// Run reads at once and then every interval, and gives the Pods to set when they have
// changed. While the server does not answer, or with something else than Pods, the last
// ones go on.
func (u *URL) Run(ctx context.Context, set func([]*keelsonv1.Pod)) {
	u.problems = problems{report: u.Report}
	client := &http.Client{Timeout: urlTimeout}
	defer client.CloseIdleConnections()
	ticker := u.Clock.NewTicker(u.Interval)
	defer ticker.Stop()
	for {
		pods, changed, err := u.read(ctx, client)
		if ctx.Err() != nil {
			return
		}
		if changed {
			set(pods)
		}
		u.problems.say(u.Address, err)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// read returns the Pods if the server has others than before. An empty answer says that
// there are none, and is a problem all the same, as upstream.
func (u *URL) read(ctx context.Context, client *http.Client) (pods []*keelsonv1.Pod, changed bool, err error) {
	data, err := u.get(ctx, client)
	if err != nil {
		return nil, false, err
	}
	if len(data) == 0 {
		u.last = nil
		return nil, true, errors.New("zero-length data received")
	}
	if bytes.Equal(data, u.last) {
		return nil, false, nil
	}
	if pods, err = parse(data, origin{source: SourceHTTP, place: u.Address, node: u.Node}); err != nil {
		return nil, false, err
	}
	u.last = data
	return pods, true, nil
}

func (u *URL) get(ctx context.Context, client *http.Client) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.Address, nil)
	if err != nil {
		return nil, err
	}
	request.Header = u.Header.Clone()
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %s", response.Status)
	}
	return readAtMost(response.Body)
}
