package main

import (
	"regexp"
	"strings"
)

// reasonLength bounds what is quoted of a test's message.
const reasonLength = 200

// accidental are parts of a message that differ from run to run.
var accidental = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "<uid>"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<digest>"},
	{regexp.MustCompile(`\b([a-z][a-z0-9-]*)-[0-9]{1,5}\b`), "$1-<n>"},
	{regexp.MustCompile(`\b[0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]+)?\b`), "<address>"},
	{regexp.MustCompile(`\b[0-9]+\.[0-9]+s\b`), "<seconds>"},
	{regexp.MustCompile(`0x[0-9a-f]+`), "<pointer>"},
}

// telling are the parts of a message that name a cause; the first match is the reason.
var telling = []*regexp.Regexp{
	regexp.MustCompile(`[^\n"]* is (?:invalid|forbidden): [^\n]*`),
	regexp.MustCompile(`the server could not find the requested resource[^\n]*`),
	regexp.MustCompile(`Internal error occurred: [^\n]*`),
}

// reasonOf quotes what a failed test says about its cause, in one line that does not
// change from run to run.
func reasonOf(message string) string {
	reason := ""
	for _, pattern := range telling {
		if reason = pattern.FindString(message); reason != "" {
			break
		}
	}
	if reason == "" {
		reason = opening(message)
	}
	for _, a := range accidental {
		reason = a.pattern.ReplaceAllString(reason, a.replacement)
	}
	reason = strings.Join(strings.Fields(reason), " ")
	if runes := []rune(reason); len(runes) > reasonLength {
		reason = string(runes[:reasonLength]) + "…"
	}
	return `"` + strings.ReplaceAll(reason, `"`, `'`) + `"`
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
