package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// Requests are how many requests the API server answered, by verb and resource, such as
// "PATCH pods/status". Watches count when they end.
type Requests map[string]float64

// takeRequests reads the API server's own count.
func takeRequests(ctx context.Context, config *rest.Config) (Requests, error) {
	config = rest.CopyConfig(config)
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("count requests: %w", err)
	}
	text, err := client.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("count requests: %w", err)
	}
	return parseRequests(text)
}

func parseRequests(text []byte) (Requests, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("count requests: %w", err)
	}
	counted := Requests{}
	for _, m := range families["apiserver_request_total"].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["resource"] == "" {
			continue // health and metrics
		}
		what := labels["verb"] + " " + strings.TrimSuffix(labels["resource"]+"/"+labels["subresource"], "/")
		counted[what] += m.GetCounter().GetValue()
	}
	return counted, nil
}

// since is what came after an earlier count.
func (r Requests) since(before Requests) Requests {
	more := Requests{}
	for what, n := range r {
		if n > before[what] {
			more[what] = n - before[what]
		}
	}
	return more
}

func (r Requests) print(w io.Writer) error {
	if len(r) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\nrequests to the API server\tmeanwhile\t\n")
	order := slices.SortedFunc(maps.Keys(r), func(a, b string) int {
		return cmp.Or(cmp.Compare(r[b], r[a]), strings.Compare(a, b))
	})
	for _, what := range order {
		fmt.Fprintf(t, "%s\t%.0f\t\n", what, r[what])
	}
	return t.Flush()
}
