package passthrough

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apiserver/pkg/endpoints/request"
	"sigs.k8s.io/yaml"

	"github.com/keelson-dev/keelson/gateway/codec"
)

// writes says whether the body of a request is an object or a patch of one.
func writes(info *request.RequestInfo) bool {
	if !info.IsResourceRequest {
		return false
	}
	switch info.Verb {
	case "create", "update", "patch":
		return true
	}
	return false
}

// withStoredOwners returns the request with the owners in its body in the stored form;
// the request itself where there is nothing to rewrite.
func (h *Handler) withStoredOwners(r *http.Request) (*http.Request, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return r, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, codec.MaxBody+1))
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the body of the request could not be read: %v", err))
	}
	relayed := r.Clone(r.Context())
	if len(body) > codec.MaxBody {
		// More than the API server takes from anybody; it says so.
		relayed.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), r.Body))
		return relayed, nil
	}
	contentType, changed := h.storedBody(codec.MediaType(r), body)
	if changed != nil {
		body = changed
		relayed.Header.Set("Content-Type", contentType)
		relayed.Header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	relayed.Body, relayed.ContentLength, relayed.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	return relayed, nil
}

// storedBody is body with stored owners and its media type, nil where nothing changes.
// What cannot be read goes to the API server as it is, which refuses it in its own words.
func (h *Handler) storedBody(media string, body []byte) (string, []byte) {
	if media == runtime.ContentTypeProtobuf {
		return h.storedProtobuf(body)
	}
	if !bytes.Contains(body, []byte("ownerReferences")) {
		return "", nil
	}
	if media == string(types.JSONPatchType) {
		return media, h.storedJSONPatch(body)
	}
	var tree map[string]any
	if err := unmarshal(media, body, &tree); err != nil || !h.translator.ReferencesToStored(tree) {
		return "", nil
	}
	if media == runtime.ContentTypeYAML || media == "" {
		media = runtime.ContentTypeJSON
	}
	return media, encode(tree)
}

// unmarshal keeps integers as they are; YAML is a superset of JSON.
func unmarshal(media string, body []byte, into any) error {
	if strings.HasSuffix(media, "yaml") {
		converted, err := yaml.YAMLToJSON(body)
		if err != nil {
			return err
		}
		body = converted
	}
	return utiljson.Unmarshal(body, into)
}

func encode(tree any) []byte {
	encoded, err := json.Marshal(tree)
	if err != nil {
		return nil // it came from JSON
	}
	return encoded
}

// storedProtobuf decodes objects that may have owners in the table: their bytes name
// the owner's kind.
func (h *Handler) storedProtobuf(body []byte) (string, []byte) {
	for _, mark := range h.kinds {
		if bytes.Contains(body, mark) {
			tree, _, err := h.codec.DecodeObject(runtime.ContentTypeProtobuf, body, schema.GroupVersionKind{})
			if err != nil || !h.translator.ReferencesToStored(tree) {
				return "", nil
			}
			return runtime.ContentTypeJSON, encode(tree)
		}
	}
	return "", nil
}

// storedJSONPatch rewrites the values of operations on metadata.ownerReferences.
func (h *Handler) storedJSONPatch(body []byte) []byte {
	var operations []map[string]any
	if err := utiljson.Unmarshal(body, &operations); err != nil {
		return nil
	}
	changed := false
	for _, operation := range operations {
		path, _ := operation["path"].(string)
		changed = h.translator.ReferencesToStored(ownersAt(path, operation["value"])) || changed
	}
	if !changed {
		return nil
	}
	return encode(operations)
}

// ownersAt is an object that has value at the place that a JSON patch names, as far as
// its owners go. It shares the maps of value.
func ownersAt(path string, value any) map[string]any {
	const owners = "/metadata/ownerReferences"
	object := map[string]any{}
	switch {
	case path == "":
		if whole, ok := value.(map[string]any); ok {
			object = whole
		}
	case path == "/metadata":
		object["metadata"] = value
	case path == owners:
		object["metadata"] = map[string]any{"ownerReferences": value}
	case strings.HasPrefix(path, owners+"/"):
		object["metadata"] = map[string]any{"ownerReferences": []any{value}}
	}
	return object
}
