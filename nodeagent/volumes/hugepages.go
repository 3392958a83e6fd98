package volumes

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// HugePages says how to mount a file system of large pages.
type HugePages struct {
	// PageSize is in bytes. Size bounds the files, in bytes; 0 is all that there are.
	PageSize, Size int64
}

func isHugePages(medium corev1.StorageMedium) bool {
	return medium == corev1.StorageMediumHugePages || strings.HasPrefix(string(medium), string(corev1.StorageMediumHugePagesPrefix))
}

// computeHugePages finds the page size of a volume: that of its medium, or the only one
// that the Pod asks for, as upstream and with its messages. A container must ask for pages
// of this size, or the Pod could have none of them.
func computeHugePages(spec *corev1.PodSpec, source *corev1.EmptyDirVolumeSource) (HugePages, error) {
	var wanted *resource.Quantity
	if text, ok := strings.CutPrefix(string(source.Medium), string(corev1.StorageMediumHugePagesPrefix)); ok {
		size, err := resource.ParseQuantity(text)
		if err != nil {
			return HugePages{}, fmt.Errorf("medium %s: %w", source.Medium, err)
		}
		wanted = &size
	}
	var found *resource.Quantity
	for _, size := range requestedPages(spec) {
		switch {
		case wanted != nil && wanted.Cmp(size) != 0:
		case found != nil && found.Cmp(size) != 0:
			return HugePages{}, fmt.Errorf("medium: %s can't be used if container requests multiple huge page sizes", source.Medium)
		default:
			found = &size
		}
	}
	if found == nil {
		return HugePages{}, fmt.Errorf("medium %s: hugePages storage requested, but there is no resource request for huge pages", source.Medium)
	}
	pages := HugePages{PageSize: found.Value()}
	if source.SizeLimit != nil {
		pages.Size = max(0, source.SizeLimit.Value())
	}
	return pages, nil
}

// requestedPages are the page sizes that the Pod or a container asks for.
func requestedPages(spec *corev1.PodSpec) []resource.Quantity {
	var lists []corev1.ResourceList
	if spec.Resources != nil {
		lists = append(lists, spec.Resources.Requests)
	}
	for _, containers := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range containers {
			lists = append(lists, containers[i].Resources.Requests)
		}
	}
	var sizes []resource.Quantity
	for _, list := range lists {
		for name := range list {
			text, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
			if size, err := resource.ParseQuantity(text); ok && err == nil { // the API takes no others
				sizes = append(sizes, size)
			}
		}
	}
	return sizes
}
