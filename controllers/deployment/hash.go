package deployment

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/dump"
)

// hashOf is the value of the label pod-template-hash, by which the Pods of one template
// are told from those of another. It is upstream's for the same template (ComputeHash in
// pkg/controller/controller_utils.go): names that people know from a stock cluster stay.
// collisions, when set, gives another value: the first was taken by a different template.
//
// It changes when a Go type of the template gets a field, so templates are compared, not
// hashes.
func hashOf(template *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	// Writing to a hash never fails.
	_, _ = fmt.Fprint(h, dump.ForHash(*template))
	if collisions != nil {
		salt := binary.LittleEndian.AppendUint32(nil, uint32(*collisions))
		_, _ = h.Write(append(salt, 0, 0, 0, 0))
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}
