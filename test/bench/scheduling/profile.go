package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// profileSeconds is how long the API server is looked at.
const profileSeconds = 15

// profiling writes a CPU profile of the API server into a folder, beginning at once. The
// returned function waits for its end.
func (s *side) profiling(ctx context.Context, folder string, nodes int) (wait func() error, err error) {
	if folder == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, fmt.Sprintf("kube-apiserver-%s-%d.pprof", s.name, nodes))
	done := make(chan error, 1)
	go func() {
		text, err := s.get(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", profileSeconds))
		if err == nil {
			err = os.WriteFile(path, text, 0o644)
		}
		done <- err
	}()
	return func() error { return <-done }, nil
}

// get reads a path of the API server.
func (s *side) get(ctx context.Context, path string) ([]byte, error) {
	client, err := rest.HTTPClientFor(s.server.Config)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.server.Config.Host, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %.200s", path, response.Status, text)
	}
	return text, err
}

// requests are how many requests the API server has answered, by verb and resource.
type requests map[string]float64

// requestLine is one line of apiserver_request_total.
var requestLine = regexp.MustCompile(`^apiserver_request_total\{(.*)\} ([0-9.e+]+)$`)

// readRequests asks the API server for its metrics.
func (s *side) readRequests(ctx context.Context) (requests, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	text, err := s.get(ctx, "/metrics")
	if err != nil {
		return nil, fmt.Errorf("read the API server's metrics: %w", err)
	}
	return parseRequests(string(text))
}

func parseRequests(text string) (requests, error) {
	counts := requests{}
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		match := requestLine.FindStringSubmatch(lines.Text())
		if match == nil {
			continue
		}
		count, err := strconv.ParseFloat(match[2], 64)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", lines.Text(), err)
		}
		labels := map[string]string{}
		for pair := range strings.SplitSeq(match[1], ",") {
			key, value, _ := strings.Cut(pair, "=")
			labels[key] = strings.Trim(value, `"`)
		}
		name := labels["verb"] + " " + labels["resource"]
		if labels["subresource"] != "" {
			name += "/" + labels["subresource"]
		}
		counts[name] += count
	}
	return counts, lines.Err()
}

// perPod says how many requests came since before for one Pod; rare ones are left out.
func (now requests) perPod(before requests, pods int) string {
	const rare = 0.01
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if each := (now[name] - before[name]) / float64(pods); each >= rare {
			parts = append(parts, fmt.Sprintf("%s %.2f", name, each))
		}
	}
	return strings.Join(parts, ", ")
}
