package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/gateway/local"
)

// pluginName is what this program is called where kubectl finds it as a plug-in.
const pluginName = "kubectl-keelson"

// kubectlArguments says whether this is `kubectl keelson ARGS…` or `keelson kubectl
// ARGS…`, whose arguments, signals and exit code are kubectl's.
func kubectlArguments(args []string) (rest []string, ok bool) {
	if len(args) == 0 {
		return nil, false
	}
	if name := strings.TrimSuffix(filepath.Base(args[0]), ".exe"); name == pluginName || name == strings.ReplaceAll(pluginName, "-", "_") {
		return args[1:], true
	}
	if len(args) > 1 && args[1] == "kubectl" {
		return args[2:], true
	}
	return nil, false
}

func runKubectl(args []string) int {
	// The terminal is kubectl's: nothing of the gateway's log belongs there.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	ctx := klog.NewContext(context.Background(), logr.Discard())
	return local.Kubectl{
		Program: cmp.Or(os.Getenv("KUBECTL"), "kubectl"), Environ: os.Environ(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}.Run(ctx, args)
}

// newKubectl is in the list of commands for --help; main runs it.
func newKubectl() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl ARGS...",
		Short: "Run stock kubectl on the usual names of Keelson's kinds, through a local gateway.",
		Long: `Run stock kubectl on the usual names of Keelson's kinds, through a local gateway.

All arguments are kubectl's. Those that choose the cluster and the credentials
(--kubeconfig, --context, --token, --as, ...) are the gateway's, which uses them and
nothing more. Installed as kubectl-keelson, the same is 'kubectl keelson ARGS...'.
The environment variable KUBECTL names another kubectl than that in PATH.`,
		DisableFlagParsing: true,
		RunE:               func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}
