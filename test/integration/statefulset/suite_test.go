// Package statefulset tests the StatefulSet controller against a real API server, inside a
// running manager; the tests play the part of scheduler and node agents.
package statefulset

import (
	"os"
	"testing"

	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }
