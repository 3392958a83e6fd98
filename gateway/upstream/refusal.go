package upstream

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxRefusal bounds what is read of an answer that tells of a failure.
const maxRefusal = 64 << 10

// Refusal is the message of an answer that is a Status, or what else it says. It reads the
// body.
func Refusal(response *http.Response) string {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxRefusal))
	if err != nil {
		return fmt.Sprintf("the API server answered %d", response.StatusCode)
	}
	status := metav1.Status{}
	if json.Unmarshal(body, &status) == nil && status.Message != "" {
		return status.Message
	}
	return fmt.Sprintf("the API server answered %d: %s", response.StatusCode, body)
}
