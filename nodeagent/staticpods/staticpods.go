// Package staticpods reads Pods from manifests on the node itself, from a folder or a
// URL, and keeps a mirror of each in the API.
//
// A static Pod runs without the API server: its manifest is its only source. The API
// shows it as a mirror Pod, which is for looking at: deleting it only makes this package
// create it again. Decode, SetDefaults and Validate are pure and do what the API server
// does with other Pods, because nobody else can be asked. The package never ends a Pod
// because its manifest became unreadable, only when it is gone or different, and never
// starts one while another Pod of its name still runs. It keeps nothing on disk: after a
// crash the manifests are read again, a Pod's UID follows from its manifest, and so its
// containers are recognised as its own.
package staticpods

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Annotations of static Pods and their mirrors, as upstream (pkg/kubelet/types).
const (
	// SourceAnnotation says where a Pod comes from: SourceFile or SourceHTTP.
	SourceAnnotation = "kubernetes.io/config.source"
	// SeenAnnotation is when the agent read the manifest first.
	SeenAnnotation = "kubernetes.io/config.seen"
	// HashAnnotation is the hash of the manifest, which is the Pod's UID too.
	HashAnnotation = "kubernetes.io/config.hash"
)

// Sources of static Pods.
const (
	SourceFile = "file"
	SourceHTTP = "http"
)

// IsMirror says that pod is an object of the API that shows a static Pod.
func IsMirror(pod *keelsonv1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// IsStatic says that pod comes from a manifest of the node. Only this package's Pods
// may be asked: what a user writes into an annotation says nothing.
func IsStatic(pod *keelsonv1.Pod) bool { return isHash(pod.UID) }

// isHash tells the UID of a static Pod from those that the API server gives.
func isHash(uid types.UID) bool {
	if len(uid) != 32 {
		return false
	}
	for _, c := range uid {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
