package logrotate

import (
	"slices"
	"strings"

	"github.com/keelson-dev/keelson/nodeagent/logs"
)

// stampFormat names a file that was put aside, as upstream; names sort by time.
const stampFormat = "20060102-150405"

// plan is what to do with the files that were put aside before, prior to the next one.
type plan struct {
	// Remove lists files that are left over or too many, oldest first.
	Remove []string
	// Compress lists files to compress, oldest first.
	Compress []string
}

// computePlan looks at the files beside a log, whose names begin with the log's and a
// dot. At most keep of them stay.
func computePlan(files []string, keep int) plan {
	files = slices.Sorted(slices.Values(files))
	var p plan
	var kept []string
	for _, file := range files {
		if leftOver(file, files) {
			p.Remove = append(p.Remove, file)
		} else {
			kept = append(kept, file)
		}
	}
	excess := max(len(kept)-keep, 0)
	p.Remove = append(p.Remove, kept[:excess]...)
	for _, file := range kept[excess:] {
		if !strings.HasSuffix(file, logs.CompressedSuffix) {
			p.Compress = append(p.Compress, file)
		}
	}
	return p
}

// leftOver says that a compression was interrupted before, or after, its result had its
// name.
func leftOver(file string, files []string) bool {
	return strings.HasSuffix(file, logs.TemporarySuffix) || slices.Contains(files, file+logs.CompressedSuffix)
}
