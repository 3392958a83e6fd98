package updown

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// callsByName are functions that look methods up by names known only when they run. A
// program that may call one keeps every exported method of every type that it uses.
var callsByName = [][]byte{[]byte("text/template.(*state).evalField"), []byte("html/template.(*Template).Execute")}

// TestProgramsLeaveOutWhatTheyDoNotCall: without them the linker leaves out what is never
// called, a third of each program, on disk and in memory. `go build -ldflags=-dumpdep`
// tells what brought them in; grpc does without the build tag of the Makefile.
//
// keelson-dns is missing here: CoreDNS's server has templates.
func TestProgramsLeaveOutWhatTheyDoNotCall(t *testing.T) {
	for _, name := range []string{"keelson", "keelson-manager", "keelson-gateway", "keelson-node"} {
		t.Run(name, func(t *testing.T) {
			program, err := os.ReadFile(filepath.Join("../../../bin", name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(program, []byte("reflect.Value.Call")) {
				t.Fatal("no names of functions are in the program: this test would find nothing")
			}
			for _, function := range callsByName {
				if bytes.Contains(program, function) {
					t.Errorf("holds %s", function)
				}
			}
		})
	}
}
