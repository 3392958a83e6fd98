package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/rand"
	kjson "sigs.k8s.io/json"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// maxPrefix leaves room for a dash and a hash in the name of an object.
const maxPrefix = 223

// Data returns template as a strategic merge patch of its workload that replaces the
// template: what kubectl rollout undo sends. Equal templates give equal bytes.
func Data(template *corev1.PodTemplateSpec) ([]byte, error) {
	raw, err := json.Marshal(template)
	if err != nil {
		return nil, fmt.Errorf("failed to encode the template: %w", err)
	}
	var tree map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &tree); err != nil {
		return nil, fmt.Errorf("failed to read the encoded template: %w", err)
	}
	tree["$patch"] = "replace"
	data, err := json.Marshal(map[string]any{"spec": map[string]any{"template": tree}})
	if err != nil {
		return nil, fmt.Errorf("failed to encode the template as a patch: %w", err)
	}
	return data, nil
}

// Template returns the template that revision holds.
func Template(revision *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	template, err := templateOf(revision.Data.Raw)
	if err != nil {
		return nil, fmt.Errorf("ControllerRevision %s/%s holds no template: %w", revision.Namespace, revision.Name, err)
	}
	return template, nil
}

func templateOf(data []byte) (*corev1.PodTemplateSpec, error) {
	var patch struct {
		Spec struct {
			Template *corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &patch); err != nil {
		return nil, err
	}
	if patch.Spec.Template == nil {
		return nil, fmt.Errorf("spec.template is missing in %.80s", data)
	}
	return patch.Spec.Template, nil
}

// Equal says whether a and b hold the same template. How they are written does not
// matter: an API server or another version of a client may order fields, leave out
// empty ones and write quantities in its own way.
func Equal(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	first, err := templateOf(a)
	if err != nil {
		return false
	}
	second, err := templateOf(b)
	return err == nil && equality.Semantic.DeepEqual(first, second)
}

// Hash returns the hash of a template in the form of upstream's: letters and digits
// that make no words. No collision count and one of 0 are the same.
func Hash(data []byte, collisionCount *int32) string {
	sum := fnv.New32()
	_, _ = sum.Write(data) // a hash's Write never fails
	if collisionCount != nil && *collisionCount != 0 {
		_, _ = sum.Write([]byte(strconv.Itoa(int(*collisionCount))))
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(sum.Sum32()), 10))
}

func name(owner, hash string) string {
	return owner[:min(len(owner), maxPrefix)] + "-" + hash
}
