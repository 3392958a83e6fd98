package clients

import (
	"os"
	"path/filepath"
	"testing"
)

// debianPython is the one whose packages come from Debian: hack/deps.sh installs the
// client there. Another python3 may come first in PATH.
const debianPython = "/usr/bin/python3"

// TestPythonClient: python/client.py says what it looks at.
func TestPythonClient(t *testing.T) {
	out := mustRun(t, "", debianPython, "python/client.py", namespace(t), setup.busybox)
	if err := contains(out, "ok exec with input", "ok the first and the last event", "ok the Pod ran in between"); err != nil {
		t.Error(err)
	}
}

// TestJavaScriptClient: javascript/client.mjs says what it looks at. Node.js finds
// modules from the folder of the program, so it runs from where they were installed.
func TestJavaScriptClient(t *testing.T) {
	source, err := os.ReadFile("javascript/client.mjs")
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(program("javascript"), "client.mjs")
	if err := os.WriteFile(copied, source, 0o600); err != nil {
		t.Fatal(err)
	}
	out := mustRun(t, "", "node", copied, namespace(t), setup.busybox)
	if err := contains(out, "ok exec with input", "ok the watch sees the deletion", "ok the informer saw it come"); err != nil {
		t.Error(err)
	}
}
