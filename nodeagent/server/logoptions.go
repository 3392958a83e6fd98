package server

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// decodeLogOptions reads the query of a request for a log as the API decodes it; false
// means that a value cannot be read.
func decodeLogOptions(query url.Values) (corev1.PodLogOptions, bool) {
	o := corev1.PodLogOptions{
		Follow: queryBool(query, "follow"), Previous: queryBool(query, "previous"), Timestamps: queryBool(query, "timestamps"),
	}
	ok := true
	number := func(name string) *int64 {
		text := query.Get(name)
		if text == "" {
			return nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		ok = ok && err == nil
		return &n
	}
	if query.Get("tailLines") == "" && query.Get("tail") != "" { // an old name
		query.Set("tailLines", query.Get("tail"))
		if query.Get("tail") == "all" {
			query.Del("tailLines")
		}
	}
	o.TailLines, o.SinceSeconds, o.LimitBytes = number("tailLines"), number("sinceSeconds"), number("limitBytes")
	if text := query.Get("sinceTime"); text != "" && text != "null" {
		at, err := time.Parse(time.RFC3339, text)
		ok = ok && err == nil
		o.SinceTime = &metav1.Time{Time: at}
	}
	o.Stream = new(corev1.LogStreamAll)
	if values, given := query["stream"]; given {
		o.Stream = &values[0]
	}
	return o, ok
}

// queryBool is true for a parameter that is there, unless it says no.
func queryBool(query url.Values, name string) bool {
	values := query[name]
	if len(values) == 0 {
		return false
	}
	no := strings.ToLower(values[0])
	return no != "false" && no != "0"
}

// validLogOptions says that the values fit together, by the rules of the API.
func validLogOptions(o corev1.PodLogOptions) bool {
	switch {
	case o.TailLines != nil && *o.TailLines < 0,
		o.LimitBytes != nil && *o.LimitBytes < 1,
		o.SinceSeconds != nil && (*o.SinceSeconds < 1 || o.SinceTime != nil):
		return false
	}
	switch *o.Stream {
	case corev1.LogStreamAll:
		return true
	case corev1.LogStreamStdout, corev1.LogStreamStderr:
		return o.TailLines == nil
	}
	return false
}
