package admission

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// isMirror says that an object shows a static Pod: upstream's plugins leave its account
// alone.
func isMirror(object tree) bool {
	_, ok := object.child("metadata").child("annotations")[corev1.MirrorPodAnnotationKey]
	return ok
}

// checkMirror refuses to make a Pod a mirror, or none, or that of another manifest: what
// it is decides who looks after it. The words are upstream's.
func checkMirror(now, old tree) field.ErrorList {
	path := field.NewPath("metadata", "annotations").Key(corev1.MirrorPodAnnotationKey)
	value := func(object tree) any {
		return object.child("metadata").child("annotations")[corev1.MirrorPodAnnotationKey]
	}
	switch was, is := isMirror(old), isMirror(now); {
	case was && (!is || value(now) != value(old)):
		return field.ErrorList{field.Forbidden(path, "may not remove or update mirror pod annotation")}
	case is && !was:
		return field.ErrorList{field.Forbidden(path, "may not add mirror pod annotation")}
	}
	return nil
}

// reviewMirror is checkMirror of an update.
func reviewMirror(c change) (field.ErrorList, error) {
	now, err := decodeTree(c.user)
	if err != nil {
		return nil, err
	}
	old, err := decodeTree(c.old)
	if err != nil {
		return nil, err
	}
	return checkMirror(now, old), nil
}
