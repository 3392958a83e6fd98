package translate

import (
	"bytes"
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// withoutDenial takes away how the API server begins the message of a refusal by one of
// Keelson's own webhooks (config/webhook), whose words are upstream's already.
func withoutDenial(text string) string {
	for _, webhook := range []string{"admission", "hooks", "system-hooks", "quota", "certificates"} {
		text = strings.ReplaceAll(text, `admission webhook "`+webhook+`.keelson.dev" denied the request: `, "")
	}
	return text
}

// Status puts an error of the API server into upstream's words, in place.
func (t *Translator) Status(status *metav1.Status) {
	status.Message = t.message(status.Message)
	if status.Details == nil {
		return
	}
	details := status.Details
	if group, ok := t.names.groups[details.Group]; ok {
		details.Group = group
	}
	details.Kind = t.names.toUpstream.Replace(details.Kind)
	for i := range details.Causes {
		details.Causes[i].Message = t.message(details.Causes[i].Message)
	}
}

func (t *Translator) message(text string) string {
	return t.names.toUpstream.Replace(withoutDenial(text))
}

// appendStatus appends a Status in JSON. What is none after all stays as it is.
func (t *Translator) appendStatus(dst, value []byte) []byte {
	var status metav1.Status
	if err := json.Unmarshal(value, &status); err != nil {
		return append(dst, value...)
	}
	t.Status(&status)
	encoded, err := json.Marshal(&status)
	if err != nil {
		return append(dst, value...)
	}
	if len(value) < 2 || value[1] != '\n' {
		return append(dst, encoded...)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, encoded, "", "  "); err != nil {
		return append(dst, encoded...)
	}
	return append(dst, indented.Bytes()...)
}
