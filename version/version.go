// Package version tells which build of Keelson is running.
//
// The variables are set by the linker (see the Makefile); a build without them
// falls back to what the Go toolchain recorded about the working tree. The
// package never reads files or the environment.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set with -ldflags "-X github.com/keelson-dev/keelson/version.gitVersion=…".
var (
	gitVersion = "v0.0.0-dev"
	gitCommit  = ""
)

// Info describes one build.
type Info struct {
	Version   string `json:"version"`
	Commit    string `json:"commit"`
	GoVersion string `json:"goVersion"`
	Platform  string `json:"platform"`
}

// Get returns the description of the running build.
func Get() Info {
	i := Info{
		Version:   gitVersion,
		Commit:    gitCommit,
		GoVersion: runtime.Version(),
		Platform:  runtime.GOOS + "/" + runtime.GOARCH,
	}
	if i.Commit == "" {
		i.Commit = recordedCommit()
	}
	return i
}

// String is the one-line form printed by --version.
func (i Info) String() string {
	return fmt.Sprintf("%s (commit %s, %s, %s)", i.Version, i.Commit, i.GoVersion, i.Platform)
}

func recordedCommit() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range build.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "unknown"
}
