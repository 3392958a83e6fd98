package env

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// FileName names a file that variables come from.
type FileName struct {
	// Volume is the name of the Pod's volume, Path is within it.
	Volume, Path string
}

// File is what a file held when the container was about to start.
type File struct {
	Text string
	// Where names the file in messages.
	Where string
}

// fileValue is the value of a key in a file, false when there is none and need not be.
func (in Input) fileValue(ref *corev1.FileKeySelector) (string, bool, error) {
	file, ok := in.Sources.Files[FileName{ref.VolumeName, ref.Path}]
	if !ok {
		return "", false, fmt.Errorf("cannot find the volume %q referenced by FileKeyRef", ref.VolumeName)
	}
	value, err := lookUp(file.Text, ref.Key)
	if err != nil {
		return "", false, fmt.Errorf("couldn't parse env file")
	}
	if value != "" {
		return value, true, nil
	}
	return "", false, missing(false, ref.Optional, "environment variable key %q not found in file %q", ref.Key, file.Where)
}

// lookUp finds the value of key in text, which a POSIX shell could read: NAME='value',
// with nothing but a comment after the closing quote. A value may span lines and stands
// for itself. An assignment whose value is separated by a space assigns nothing, as in a
// shell. What stands after the key is not looked at; a key that is missing is empty.
func lookUp(text, key string) (string, error) {
	lines := strings.Split(text, "\n")
	for at := 0; at < len(lines); at++ {
		line := strings.TrimLeft(strings.TrimSuffix(lines[at], "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		number := at + 1
		name, rest, err := cutName(line, number)
		if err != nil {
			return "", err
		}
		value := ""
		if rest == "" || rest[0] != ' ' && rest[0] != '\t' {
			if value, at, err = quoted(lines, at, rest); err != nil {
				return "", err
			}
		}
		if name == key {
			return value, nil
		}
	}
	return "", nil
}

// cutName splits a line at its first equals sign.
func cutName(line string, number int) (name, rest string, err error) {
	name, rest, found := strings.Cut(line, "=")
	switch {
	case !found:
		err = fmt.Errorf("invalid environment variable format at line %d: missing '='", number)
	case strings.TrimRight(name, " \t") == "":
		err = fmt.Errorf("invalid environment variable format at line %d: empty variable name", number)
	case strings.TrimRight(name, " \t") != name:
		err = fmt.Errorf("invalid environment variable format at line %d: whitespace before '=' is not allowed", number)
	}
	return name, rest, err
}

// quoted reads a value that begins with rest in line at, and says in which line it ends.
func quoted(lines []string, at int, rest string) (string, int, error) {
	first := at + 1
	rest, found := strings.CutPrefix(rest, "'")
	if !found {
		return "", at, fmt.Errorf("invalid environment variable format at line %d: value must be enclosed in single quotes", first)
	}
	var value strings.Builder
	for {
		inside, after, closed := strings.Cut(rest, "'")
		value.WriteString(inside)
		if closed {
			after = strings.TrimLeft(after, " \t")
			if after != "" && after[0] != '#' {
				return "", at, fmt.Errorf("invalid environment variable format at line %d: unexpected content after closing quote", at+1)
			}
			return value.String(), at, nil
		}
		at++
		if at == len(lines) || at == len(lines)-1 && lines[at] == "" {
			return "", at, fmt.Errorf("invalid environment variable format starting at line %d: unclosed single quote", first)
		}
		value.WriteByte('\n')
		rest = strings.TrimSuffix(lines[at], "\r")
	}
}
