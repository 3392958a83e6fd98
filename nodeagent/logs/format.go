// Package logs knows the log files of containers: their format, CRI's, which
// `kubectl logs` and log collectors read, and how to read and follow them, rotation
// included. A reader sees the file at the path; what rotation has put aside before is
// not looked for.
//
// Each line is "<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>"; P marks
// a piece of a line longer than MaxLine, F its last or only piece.
//
// It never writes: that does the logger program (build/logger), one per container,
// which outlives the agent. So there is nothing to recover after a crash.
package logs

// MaxLine is the longest piece of text in one entry, in bytes, as in containerd.
const MaxLine = 16 << 10

// Names of the streams of a container.
const (
	stdout = "stdout"
	stderr = "stderr"
)
