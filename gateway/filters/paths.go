package filters

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// checkTarget says what is wrong with the target of a request as it stood in the
// request line. Everything behind the gateway splits paths, and some of it cleans
// them: a path that could be split in two ways is refused, because it would be
// authorized as one thing and served as another.
func checkTarget(target string) error {
	raw, _, _ := strings.Cut(target, "?")
	if !strings.HasPrefix(raw, "/") {
		return fmt.Errorf("the request target %q is not an absolute path", truncate(target, 128))
	}
	segments := strings.Split(raw[1:], "/")
	free := afterProxy(segments)
	for i, segment := range segments {
		if i >= free {
			// What follows /proxy/ belongs to somebody else's server, who may have names
			// with slashes in them; to climb out of it is refused all the same.
			if err := checkForeignSegment(segment); err != nil {
				return err
			}
			continue
		}
		if segment == "" && i < len(segments)-1 {
			return errors.New("the path has an empty segment (//)")
		}
		if err := checkSegment(segment); err != nil {
			return err
		}
	}
	return nil
}

func checkSegment(segment string) error {
	decoded, err := decodeSegment(segment)
	switch {
	case err != nil:
		return err
	case strings.ContainsAny(decoded, `/\`):
		return fmt.Errorf("the path segment %q hides a slash", truncate(segment, 64))
	case strings.Contains(decoded, "%"):
		return fmt.Errorf("the path segment %q is encoded twice", truncate(segment, 64))
	}
	return nil
}

// checkForeignSegment also looks behind slashes that are hidden in the segment.
func checkForeignSegment(segment string) error {
	decoded, err := decodeSegment(segment)
	if err != nil {
		return err
	}
	for _, part := range strings.FieldsFunc(decoded, func(r rune) bool { return r == '/' || r == '\\' }) {
		if isDots(part) {
			return fmt.Errorf("the path segment %q leads out of its folder", truncate(segment, 64))
		}
	}
	return nil
}

// decodeSegment refuses what no segment may hold.
func decodeSegment(segment string) (string, error) {
	decoded, err := url.PathUnescape(segment)
	if err != nil {
		return "", fmt.Errorf("the path segment %q is not encoded right", truncate(segment, 64))
	}
	if isDots(decoded) {
		return "", fmt.Errorf("the path segment %q leads out of its folder", truncate(segment, 64))
	}
	if strings.ContainsFunc(decoded, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return "", fmt.Errorf("the path segment %q holds a control character", truncate(segment, 64))
	}
	return decoded, nil
}

func isDots(segment string) bool { return segment == "." || segment == ".." }

// afterProxy returns the index of the first segment that a proxied Pod, Service or
// Node gets to see, or one beyond the last.
//
//	/api/v1/namespaces/{namespace}/{pods|services}/{name}/proxy/…
//	/api/v1/nodes/{name}/proxy/…
func afterProxy(segments []string) int {
	at := func(i int) string {
		if i < len(segments) {
			return segments[i]
		}
		return ""
	}
	none := len(segments)
	if at(0) != "api" || at(1) != "v1" {
		return none
	}
	switch {
	case at(2) == "nodes" && at(4) == "proxy":
		return min(5, none)
	case at(2) == "namespaces" && (at(4) == "pods" || at(4) == "services") && at(6) == "proxy":
		return min(7, none)
	}
	return none
}

func truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
