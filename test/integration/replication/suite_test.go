// Package replication tests the ReplicationController controller against a real API
// server: directly with a fake clock, and inside a running manager.
package replication

import (
	"os"
	"testing"

	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }
