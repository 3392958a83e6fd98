package summary

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Quota returns the REQUEST and LIMIT columns of a ResourceQuota with such a status.
func Quota(status *corev1.ResourceQuotaStatus) (request, limit string) {
	var requests, limits []string
	for _, name := range slices.Sorted(maps.Keys(status.Hard)) {
		used, hard := status.Used[name], status.Hard[name]
		text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
		if strings.HasPrefix(string(name), "limits.") {
			limits = append(limits, text)
		} else {
			requests = append(requests, text)
		}
	}
	return strings.Join(requests, ", "), strings.Join(limits, ", ")
}
