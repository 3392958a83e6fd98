// Package deployment tests Deployments against a real API server, together with the
// ReplicaSet controller and Pods that become ready by themselves.
package deployment

import (
	"os"
	"testing"

	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }
