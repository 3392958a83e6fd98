package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const kib = 1 << 10

// HugePageResource is the name in a Pod of large pages of a size in bytes, such as
// hugepages-2Mi.
func HugePageResource(size int64) corev1.ResourceName {
	return corev1.ResourceName(corev1.ResourceHugePagesPrefix + resource.NewQuantity(size, resource.BinarySI).String())
}

// HugePageName is the kernel's name of a size in the files of the controller, such as 2MB.
func HugePageName(size int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{kib * kib * kib, "GB"}, {kib * kib, "MB"}} {
		if size >= unit.bytes && size%unit.bytes == 0 {
			return strconv.FormatInt(size/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(size/kib, 10) + "KB"
}

// HugePages reads how many bytes of large pages the machine has set aside, by size in
// bytes, from a folder like /sys/kernel/mm/hugepages. A kernel without large pages has
// none.
func HugePages(dir string) (map[int64]int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the machine's large pages: %w", err)
	}
	pages := map[int64]int64{}
	for _, e := range entries {
		name, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), "kB"), "hugepages-")
		size, err := strconv.ParseInt(name, 10, 64)
		if !ok || err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name(), "nr_hugepages"))
		if err != nil {
			return nil, fmt.Errorf("reading the machine's large pages: %w", err)
		}
		count, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reading the machine's large pages: %w", err)
		}
		pages[size*kib] = count * size * kib
	}
	return pages, nil
}

// HugePageSizes are those that can be limited here, in bytes: none without the
// controller.
func (m *Manager) HugePageSizes(pages map[int64]int64) []int64 {
	if !m.Has("hugetlb") {
		return nil
	}
	sizes := make([]int64, 0, len(pages))
	for size := range pages {
		sizes = append(sizes, size)
	}
	slices.Sort(sizes)
	return sizes
}
