package resources

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

const contentJSON = "application/json"

// call is one request being served.
type call struct {
	*Handler
	target

	w http.ResponseWriter
	r *http.Request
	// ctx is the request's, in the name of the authorized caller.
	ctx  context.Context
	info *request.RequestInfo
	// warnings guards the Warning headers of w.
	warnings sync.Mutex
}

// asked is one request to the API server on behalf of a call.
type asked struct {
	method      string
	target      target
	query       url.Values
	accept      string // JSON where empty
	contentType string // JSON where empty
	body        []byte
}

// send asks the API server. The caller's User-Agent goes along: it is the name of the
// field manager where the request names none. An error answer is an answer.
func (c *call) send(ctx context.Context, a asked) (*http.Response, error) {
	header := http.Header{"Accept": {contentJSON}, "User-Agent": c.r.Header["User-Agent"], "Accept-Encoding": {"identity"}}
	if a.accept != "" {
		header.Set("Accept", a.accept)
	}
	var body io.Reader
	if a.body != nil {
		body = bytes.NewReader(a.body)
		header.Set("Content-Type", contentJSON)
		if a.contentType != "" {
			header.Set("Content-Type", a.contentType)
		}
	}
	answer, err := c.client.Do(ctx, upstream.Request{Method: a.method, Path: a.target.path(), Query: a.query, Header: header, Body: body})
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	return answer, nil
}

// unreachable puts a failed exchange into words for the client.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return apierrors.NewServiceUnavailable(fmt.Sprintf("the API server behind the gateway does not answer: %v", err))
}

// ask sends a, and reads the answer into a tree of the stored form. An error answer is
// returned as an error in upstream's words. The Warning headers of the answer go to the
// client.
func (c *call) ask(ctx context.Context, a asked) (map[string]any, int, error) {
	raw, code, err := c.askRaw(ctx, a)
	if err != nil {
		return nil, code, err
	}
	tree, err := decodeTree(raw)
	return tree, code, err
}

func (c *call) askRaw(ctx context.Context, a asked) ([]byte, int, error) {
	answer, err := c.send(ctx, a)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, 0, unreachable(ctx, fmt.Errorf("read the answer of the API server: %w", err))
	}
	if answer.StatusCode >= http.StatusBadRequest {
		return nil, answer.StatusCode, c.errorOf(answer, raw)
	}
	c.warn(answer.Header.Values("Warning")...)
	return raw, answer.StatusCode, nil
}

// warn adds Warning headers to the answer; one call may ask several questions at once.
func (c *call) warn(warnings ...string) {
	c.warnings.Lock()
	defer c.warnings.Unlock()
	for _, warning := range warnings {
		c.w.Header().Add("Warning", warning)
	}
}

// errorOf is the error in an answer of the API server.
func (h *Handler) errorOf(answer *http.Response, raw []byte) error {
	var status metav1.Status
	if err := json.Unmarshal(raw, &status); err != nil || status.Kind != "Status" {
		return apierrors.NewGenericServerResponse(answer.StatusCode, "", schema.GroupResource{}, "", string(raw), 0, true)
	}
	h.translator.Status(&status)
	return &apierrors.StatusError{ErrStatus: status}
}

// fetch reads a stored object.
func (c *call) fetch(ctx context.Context, t target) (map[string]any, error) {
	tree, _, err := c.ask(ctx, asked{method: http.MethodGet, target: t})
	return tree, err
}

func decodeTree(raw []byte) (map[string]any, error) {
	var tree map[string]any
	if err := utiljson.Unmarshal(raw, &tree); err != nil {
		return nil, fmt.Errorf("decode an object: %w", err)
	}
	return tree, nil
}

func encodeTree(tree map[string]any) ([]byte, error) {
	raw, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("encode an object: %w", err)
	}
	return raw, nil
}

// decodeInto reads a tree as a typed object.
func decodeInto(tree map[string]any, into any) error {
	raw, err := encodeTree(tree)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("decode the stored object: %w", err)
	}
	return nil
}

// resourceVersionOf is metadata.resourceVersion.
func resourceVersionOf(tree map[string]any) string { return metaString(tree, "resourceVersion") }

func metaString(tree map[string]any, field string) string {
	metadata, _ := tree["metadata"].(map[string]any)
	text, _ := metadata[field].(string)
	return text
}

// metadataOf is the metadata of a tree, made where there is none.
func metadataOf(tree map[string]any) map[string]any {
	metadata, ok := tree["metadata"].(map[string]any)
	if !ok {
		metadata = map[string]any{}
		tree["metadata"] = metadata
	}
	return metadata
}

// writeStored answers with an object in the stored form.
func (c *call) writeStored(code int, tree map[string]any) error {
	format, err := c.codec.Negotiate(c.r, false)
	if err != nil {
		return err
	}
	if err := c.translator.ToUpstream(tree); err != nil {
		return err
	}
	return c.logWrite(c.codec.WriteTree(c.w, c.r, format, code, tree))
}

// attempts is how often a write is tried again on a conflict that is none of the
// caller's, as upstream's API server does for patches.
const attempts = 5

// retry repeats a read-modify-write while others write in between.
func retry(ctx context.Context, try func() error) error {
	var err error
	for range attempts {
		if err = try(); !apierrors.IsConflict(err) || errors.Is(err, errFinal) || ctx.Err() != nil {
			break
		}
	}
	return unwrapFinal(err)
}

// errFinal marks a conflict with what the caller asked for: nobody tries again.
var errFinal = errors.New("the caller's own precondition fails")

type finalError struct{ error }

func (e finalError) Is(target error) bool { return target == errFinal }
func (e finalError) Unwrap() error        { return e.error }

func final(err error) error {
	if err == nil {
		return nil
	}
	return finalError{err}
}

func unwrapFinal(err error) error {
	var f finalError
	if errors.As(err, &f) {
		return f.error
	}
	return err
}

// groupResource is the resource as clients name it.
func groupResource(row table.Row) schema.GroupResource { return row.Upstream.GroupResource() }
