package resources

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxJSONPatchOperations is upstream's limit.
const maxJSONPatchOperations = 10000

// applyPatch returns what the patch makes of an object in the client's form; like is of
// the object's Go type. Errors are in upstream's words.
func applyPatch(p patchRequest, object map[string]any, like runtime.Object) (map[string]any, error) {
	var patched map[string]any
	var err error
	if p.kind == types.StrategicMergePatchType {
		patched, err = mergeStrategically(p.body, object, like)
	} else {
		patched, err = patchJSON(p, object)
	}
	if err != nil {
		return nil, err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(patched, like, false); err != nil {
		return nil, apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), fmt.Sprintf("%+v", string(p.body)), err.Error())})
	}
	return patched, nil
}

func mergeStrategically(body []byte, object map[string]any, like runtime.Object) (map[string]any, error) {
	var patch map[string]any
	if err := utiljson.Unmarshal(body, &patch); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	patched, err := strategicpatch.StrategicMergeMapPatch(object, patch, like)
	switch {
	case err == nil:
		return patched, nil
	case errors.Is(err, mergepatch.ErrNoListOfLists), errors.Is(err, mergepatch.ErrPatchContentNotMatchRetainKeys):
		return nil, unprocessable(err)
	}
	return nil, apierrors.NewBadRequest(err.Error())
}

func patchJSON(p patchRequest, object map[string]any) (map[string]any, error) {
	original, err := encodeTree(object)
	if err != nil {
		return nil, err
	}
	patched, err := patchBytes(p, original)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := utiljson.Unmarshal(patched, &tree); err != nil {
		return nil, apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), string(patched), err.Error())})
	}
	return tree, nil
}

func patchBytes(p patchRequest, original []byte) ([]byte, error) {
	if p.kind == types.MergePatchType {
		if !json.Valid(p.body) {
			return nil, apierrors.NewBadRequest("error decoding patch: the body is not JSON")
		}
		patched, err := jsonpatch.MergePatch(original, p.body)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return patched, nil
	}
	operations, err := jsonpatch.DecodePatch(p.body)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(operations) > maxJSONPatchOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(
			fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxJSONPatchOperations, len(operations)))
	}
	patched, err := operations.Apply(original)
	if err != nil {
		return nil, unprocessable(err)
	}
	return patched, nil
}

func unprocessable(err error) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}
