package podautoscaler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
)

const (
	prometheusTimeout = 10 * time.Second
	// maxAnswer bounds what is read of one answer.
	maxAnswer = 16 << 20
)

// Prometheus reads metrics by instant queries (GET <url>/api/v1/query):
//
//	Pods:     sum by (pod) (METRIC{namespace="NS",SELECTOR})
//	Object:   sum(METRIC{namespace="NS",KIND="NAME",SELECTOR}), KIND in lower case;
//	          of the Namespace itself: sum(METRIC{namespace="NS",SELECTOR})
//	External: METRIC{namespace="NS",SELECTOR}
//
// The labels are those that Prometheus' own discovery of Kubernetes and kube-state-metrics
// give, and the defaults of the common adapter. Every query names the autoscaler's
// namespace: nobody scales by what another namespace measures. A metric is taken as it is;
// for a rate, record one with a rule of Prometheus.
type Prometheus struct {
	base   *url.URL
	client *http.Client
}

// NewPrometheus returns a reader of the server at address, such as
// http://prometheus:9090. User name and password may be in the address.
func NewPrometheus(address string) (*Prometheus, error) {
	base, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("%q is not a URL: %w", address, err)
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("%q is not a URL such as http://prometheus.monitoring:9090", address)
	}
	return &Prometheus{base: base, client: &http.Client{Timeout: prometheusTimeout}}, nil
}

// Pods implements CustomMetrics.
func (p *Prometheus) Pods(ctx context.Context, namespace, metric string, selector labels.Selector) (map[string]int64, error) {
	series, err := seriesOf(metric, namespace, "", "", selector)
	if err != nil {
		return nil, err
	}
	answer, err := p.query(ctx, "sum by (pod) ("+series+")")
	if err != nil {
		return nil, err
	}
	values := map[string]int64{}
	for i := range answer {
		if name := answer[i].Metric["pod"]; name != "" {
			if values[name], err = answer[i].milli(); err != nil {
				return nil, err
			}
		}
	}
	return values, nil
}

// Object implements CustomMetrics.
func (p *Prometheus) Object(ctx context.Context, namespace, metric string, of upstreamautoscalingv2.CrossVersionObjectReference, selector labels.Selector) (int64, error) {
	label, name := strings.ToLower(of.Kind), of.Name
	if version, err := schema.ParseGroupVersion(of.APIVersion); err == nil && version.Group == "" && of.Kind == "Namespace" {
		label = ""
	}
	series, err := seriesOf(metric, namespace, label, name, selector)
	if err != nil {
		return 0, err
	}
	answer, err := p.query(ctx, "sum("+series+")")
	if err != nil {
		return 0, err
	}
	if len(answer) == 0 {
		return 0, fmt.Errorf("prometheus has no series %s", series)
	}
	return answer[0].milli()
}

// External implements CustomMetrics.
func (p *Prometheus) External(ctx context.Context, namespace, metric string, selector labels.Selector) ([]int64, error) {
	series, err := seriesOf(metric, namespace, "", "", selector)
	if err != nil {
		return nil, err
	}
	answer, err := p.query(ctx, series)
	if err != nil {
		return nil, err
	}
	if len(answer) == 0 {
		return nil, fmt.Errorf("prometheus has no series %s", series)
	}
	values := make([]int64, len(answer))
	for i := range answer {
		if values[i], err = answer[i].milli(); err != nil {
			return nil, err
		}
	}
	return values, nil
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

// seriesOf is the selector of the series. Names that Prometheus does not know, and that
// could be more of a query than a name, are refused; values are quoted.
func seriesOf(metric, namespace, label, value string, selector labels.Selector) (string, error) {
	if !metricName.MatchString(metric) {
		return "", fmt.Errorf("%q is no name of a metric of Prometheus: it must match %s", metric, metricName)
	}
	matchers := []string{matcher("namespace", "=", namespace)}
	if label != "" {
		if !labelName.MatchString(label) {
			return "", fmt.Errorf("kind %q cannot be a label of Prometheus", label)
		}
		matchers = append(matchers, matcher(label, "=", value))
	}
	requirements, _ := selector.Requirements()
	for _, requirement := range requirements {
		if !labelName.MatchString(requirement.Key()) {
			return "", fmt.Errorf("label %q of the metric's selector is none of Prometheus: it must match %s", requirement.Key(), labelName)
		}
		if requirement.Key() == "namespace" {
			return "", errors.New("the metric's selector names the label namespace: it is the autoscaler's")
		}
		matchers = append(matchers, matcherOf(requirement))
	}
	return metric + "{" + strings.Join(matchers, ",") + "}", nil
}

func matcherOf(requirement labels.Requirement) string {
	values := make([]string, 0, requirement.Values().Len())
	for _, value := range requirement.Values().List() {
		values = append(values, regexp.QuoteMeta(value))
	}
	anyOf := strings.Join(values, "|")
	switch requirement.Operator() {
	case selection.NotIn, selection.NotEquals:
		return matcher(requirement.Key(), "!~", anyOf)
	case selection.Exists:
		return matcher(requirement.Key(), "!=", "")
	case selection.DoesNotExist:
		return matcher(requirement.Key(), "=", "")
	default:
		return matcher(requirement.Key(), "=~", anyOf)
	}
}

func matcher(label, operator, value string) string { return label + operator + strconv.Quote(value) }

// point is one series of an answer.
type point struct {
	Metric map[string]string `json:"metric"`
	// Value is the time and the value, the latter as text.
	Value [2]any `json:"value"`
}

func (p *point) milli() (int64, error) {
	text, ok := p.Value[1].(string)
	if !ok {
		return 0, fmt.Errorf("prometheus answered %v, which is no value", p.Value)
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(value) {
		return 0, fmt.Errorf("prometheus answered %q, which is no number", text)
	}
	switch value = math.Round(value * 1000); {
	case value >= math.MaxInt64:
		return math.MaxInt64, nil
	case value <= math.MinInt64:
		return math.MinInt64, nil
	}
	return int64(value), nil
}

func (p *Prometheus) query(ctx context.Context, query string) ([]point, error) {
	location := p.base.JoinPath("/api/v1/query")
	location.RawQuery = url.Values{"query": {query}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask prometheus: %w", err)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask prometheus for %s: %w", query, withoutURL(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask prometheus for %s: %w", query, err)
	}
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string
			Result     []point
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		reason := answer.Error
		if reason == "" {
			reason = response.Status
		}
		return nil, fmt.Errorf("ask prometheus for %s: %s", query, reason)
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("ask prometheus for %s: the answer is a %s, not a vector", query, answer.Data.ResultType)
	}
	return answer.Data.Result, nil
}

// withoutURL leaves the address out of the error: it may hold a password, and users read
// the error in conditions.
func withoutURL(err error) error {
	if refused, ok := errors.AsType[*url.Error](err); ok {
		return refused.Err
	}
	return err
}

// noCustomMetrics is where no Prometheus is configured.
type noCustomMetrics struct{}

var errNoCustomMetrics = errors.New("unable to fetch metrics from custom metrics API: this cluster serves metrics of CPU and memory only; start keelson-manager with --horizontal-pod-autoscaler-prometheus-url for others")

// Pods implements CustomMetrics.
func (noCustomMetrics) Pods(context.Context, string, string, labels.Selector) (map[string]int64, error) {
	return nil, errNoCustomMetrics
}

// Object implements CustomMetrics.
func (noCustomMetrics) Object(context.Context, string, string, upstreamautoscalingv2.CrossVersionObjectReference, labels.Selector) (int64, error) {
	return 0, errNoCustomMetrics
}

// External implements CustomMetrics.
func (noCustomMetrics) External(context.Context, string, string, labels.Selector) ([]int64, error) {
	return nil, errNoCustomMetrics
}
