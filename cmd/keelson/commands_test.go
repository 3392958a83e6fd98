package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
)

func TestCommandLine(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	tests := map[string]struct {
		args       []string
		wantCode   int
		wantStdout string
		wantStderr []string
	}{
		"no command shows the help":                 {wantStdout: "Start the cluster in the background"},
		"the version":                               {args: []string{"version"}, wantStdout: "keelson v0.0.0-dev"},
		"the version by a flag":                     {args: []string{"--version"}, wantStdout: "keelson v0.0.0-dev"},
		"a command that does not exist":             {args: []string{"upp"}, wantCode: cli.ExitUsage, wantStderr: []string{`unknown command "upp"`, "up", "down", "status"}},
		"a flag that does not exist":                {args: []string{"up", "--machines=3"}, wantCode: cli.ExitUsage, wantStderr: []string{"--machines", "See 'keelson up --help'"}},
		"an argument where none belongs":            {args: []string{"down", "now"}, wantCode: cli.ExitUsage, wantStderr: []string{`unexpected argument "now"`}},
		"bad values are all named":                  {args: []string{"up", "--node-ip=x", "--timeout=0s"}, wantCode: cli.ExitUsage, wantStderr: []string{"--node-ip", "--timeout"}},
		"the status of a cluster that is not there": {args: []string{"status", "--data-dir", missing}, wantCode: cli.ExitFailure, wantStderr: []string{"not up", missing}},
		"converting nothing":                        {args: []string{"convert"}, wantCode: cli.ExitUsage, wantStderr: []string{"nothing to convert"}},
		"converting to a form nobody knows":         {args: []string{"convert", "--to=docker", missing}, wantCode: cli.ExitUsage, wantStderr: []string{"--to", `"docker"`, "keelson", "kubernetes"}},
		"converting a file that is not there":       {args: []string{"convert", missing}, wantCode: cli.ExitFailure, wantStderr: []string{missing}},
		"what an API server needs":                  {args: []string{"manifests", "--webhook-url=https://localhost:9443"}, wantStdout: "url: https://localhost:9443/"},
		"what a guest needs":                        {args: []string{"manifests", "--mode=guest"}, wantStdout: "name: keelson-webhook"},
		"manifests of a mode that nobody knows":     {args: []string{"manifests", "--mode=host"}, wantCode: cli.ExitUsage, wantStderr: []string{`--mode: "host" is neither`}},
		"webhooks without TLS":                      {args: []string{"manifests", "--webhook-url=http://localhost:9443"}, wantCode: cli.ExitUsage, wantStderr: []string{"--webhook-url: ", "not of the form https://name:port"}},
		"no nodes at all":                           {args: []string{"up", "--nodes=0"}, wantCode: cli.ExitUsage, wantStderr: []string{"--nodes: 0 is not between 1 and 200"}},
		"more nodes than a machine carries":         {args: []string{"up", "--nodes=1000"}, wantCode: cli.ExitUsage, wantStderr: []string{"--nodes: 1000 is not between 1 and 200"}},
		"nodes that are no number":                  {args: []string{"up", "--nodes=many"}, wantCode: cli.ExitUsage, wantStderr: []string{"--nodes", `"many" is not a number`}},
		"several nodes of one name and address":     {args: []string{"up", "--nodes=2", "--node-name=a", "--node-ip=192.0.2.1"}, wantCode: cli.ExitUsage, wantStderr: []string{"--node-name: names the only node", "--node-ip: is the address of the only node"}},
		"a network of nodes that is too small":      {args: []string{"up", "--nodes=9", "--node-network=192.0.2.0/29"}, wantCode: cli.ExitUsage, wantStderr: []string{"--nodes: 192.0.2.0/29 (--node-network) has addresses for 5 nodes, not for 9"}},
		"a network of nodes that Pods have":         {args: []string{"up", "--node-network=10.244.7.0/24"}, wantCode: cli.ExitUsage, wantStderr: []string{"--node-network: 10.244.7.0/24 overlaps 10.244.0.0/16 (--cluster-cidr)"}},
		"what to do with a node nobody named":       {args: []string{"node", "stop"}, wantCode: cli.ExitUsage, wantStderr: []string{"name one node", "keelson node list"}},
		"something that nodes cannot do":            {args: []string{"node", "paint", "a"}, wantCode: cli.ExitUsage, wantStderr: []string{`unknown command "paint"`, "cut", "heal"}},
		"cutting a node off from nobody known":      {args: []string{"node", "cut", "a", "--from=me"}, wantCode: cli.ExitUsage, wantStderr: []string{`--from: "me" is none of control-plane, nodes, all`}},
		"a node of a cluster that is not there":     {args: []string{"node", "stop", "a", "--data-dir", missing}, wantCode: cli.ExitFailure, wantStderr: []string{"there is no cluster in " + missing}},
		"ending a cluster that is not there":        {args: []string{"down", "--data-dir", missing}, wantStdout: "Nothing to end"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cmd := newCommand()
			var stdout, stderr bytes.Buffer
			cmd.SetArgs(append([]string{}, tt.args...))
			cmd.SetOut(&stdout)
			if code := cli.Execute(t.Context(), cmd, &stderr); code != tt.wantCode {
				t.Errorf("exit code %d, want %d; stderr %s", code, tt.wantCode, stderr.String())
			}
			if !strings.Contains(stdout.String(), tt.wantStdout) {
				t.Errorf("stdout %q lacks %q", stdout.String(), tt.wantStdout)
			}
			for _, want := range tt.wantStderr {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr %q lacks %q", stderr.String(), want)
				}
			}
		})
	}
}

// TestInterruptedIsNotDone: `keelson up && next` must not go on after Ctrl-C.
func TestInterruptedIsNotDone(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	cmd := newCommand()
	cmd.RunE = func(*cobra.Command, []string) error { return unfinished(fmt.Errorf("wait: %w", ctx.Err())) }
	cmd.SetArgs(nil)
	var stderr bytes.Buffer
	if code := cli.Execute(ctx, cmd, &stderr); code != cli.ExitFailure || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}
