package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// reasonLength bounds what is quoted of a test's message.
const reasonLength = 200

// refusedFields begins the reason of a test whose Pods have fields that admission
// refuses; the fields follow.
const refusedFields = "Keelson refuses these fields of its Pods: "

// refused matches one field in a refusal of package apis/support, below the spec of a
// Pod or of its template, and below its container.
var refused = regexp.MustCompile(`spec\.(?:template\.spec\.)?(?:(?:containers|initContainers|ephemeralContainers)\[\d+\]\.)?([^\s:]+): Forbidden: not supported by Keelson`)

// index is an element of a list or map in a path.
var index = regexp.MustCompile(`\[[^\]]*\]`)

// retired are reasons that were true once: a new report may replace them.
var retired = []string{
	"CronJobs have no controller.",
	"DaemonSets have no controller.",
	"Deployments have no controller.",
	"Jobs have no controller.",
	"LimitRanges are not applied.",
	"No DNS server runs in the cluster.",
	"Nobody takes the finalizers of storage objects away.",
	"Nobody writes EndpointSlices.",
	"Nodes do not resize Pods in place.",
	"PodDisruptionBudgets have no controller.",
	"ReplicaSets have no controller.",
	"ResourceQuotas have no controller.",
	"StatefulSets have no controller.",
	"The scheduler does not preempt.",
	"Tokens are bound to a Pod's account, not to the Pod.",
	"Webhooks whose rules name Pods are not called: the API server stores Pods as another kind.",
}

// accidental are parts of a message that differ from run to run.
var accidental = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "<uid>"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<digest>"},
	{regexp.MustCompile(`\b([a-z][a-z0-9-]*)-[0-9]{1,5}\b`), "$1-<n>"},
	{regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{5}\b`), "-<random>"}, // of generateName
	{regexp.MustCompile(`\b[0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]+)?\b`), "<address>"},
	{regexp.MustCompile(`\b[0-9]+\.[0-9]+s\b`), "<seconds>"},
	{regexp.MustCompile(`0x[0-9a-f]+`), "<pointer>"},
}

// telling are the parts of a message that name a cause; the first match is quoted.
var telling = []*regexp.Regexp{
	regexp.MustCompile(`[^\n"]* is (?:invalid|forbidden): [^\n]*`),
	regexp.MustCompile(`the server could not find the requested resource[^\n]*`),
	regexp.MustCompile(`Internal error occurred: [^\n]*`),
}

// reasonOf names the cause that a failed test's message points to, or quotes from the
// message, in one line that does not change from run to run.
func reasonOf(message string) string {
	if fields := fieldsRefused(message); len(fields) > 0 {
		return refusedFields + strings.Join(fields, ", ")
	}
	return quote(message)
}

// isAutomatic says that reasonOf may have written a reason; the others are a person's.
func isAutomatic(reason string) bool {
	return reason == "" || reason == notAttempted || slices.Contains(retired, reason) || strings.HasPrefix(reason, `"`) || strings.HasPrefix(reason, refusedFields)
}

func fieldsRefused(message string) []string {
	fields := map[string]bool{}
	volumes := false
	for _, m := range refused.FindAllStringSubmatch(message, -1) {
		field := index.ReplaceAllString(m[1], "")
		fields[field] = true
		volumes = volumes || strings.HasPrefix(field, "volumes")
	}
	if volumes {
		delete(fields, "volumeMounts")
	}
	return slices.Sorted(maps.Keys(fields))
}

// quote takes the telling part of a message.
func quote(message string) string {
	words := ""
	for _, pattern := range telling {
		if words = pattern.FindString(message); words != "" {
			break
		}
	}
	if words == "" {
		words = opening(message)
	}
	for _, a := range accidental {
		words = a.pattern.ReplaceAllString(words, a.replacement)
	}
	words = strings.Join(strings.Fields(words), " ")
	if runes := []rune(words); len(runes) > reasonLength {
		words = string(runes[:reasonLength]) + "…"
	}
	return `"` + strings.ReplaceAll(words, `"`, `'`) + `"`
}

// opening is the first line of a message, or all of it where that line says nothing
// alone, as the matchers' "Expected".
func opening(message string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	if first == "Expected" || strings.HasSuffix(first, ":") {
		return message
	}
	return first
}
