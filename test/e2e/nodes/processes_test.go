package nodes

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// processesOf are the PIDs of the processes that run a program, named by the end of its
// path, with an argument. Nodes share the machine's numbers.
func processesOf(t *testing.T, program, argument string) []int {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, name := range names {
		text, err := os.ReadFile(name)
		words := strings.Split(string(text), "\x00")
		if err != nil || filepath.Base(words[0]) != program || argument != "" && !slices.Contains(words[1:], argument) {
			continue // ended meanwhile, or another
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// agentOf is the process of a node's agent.
func agentOf(t *testing.T, node string) int {
	t.Helper()
	pids := processesOf(t, "keelson-node", "--node-name="+node)
	if len(pids) != 1 {
		t.Fatalf("node %s has the agents %v", node, pids)
	}
	return pids[0]
}
