package machine_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keelson-dev/keelson/test/env/machine"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

func TestInterfacesAreItsOwn(t *testing.T) {
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		if !slices.Contains([]string{"lo", "eth0", machine.Wire}, i.Name) && !strings.HasPrefix(i.Name, "ifb") {
			t.Errorf("interface %s of the real machine is visible", i.Name)
		}
	}
	if _, err := net.Listen("tcp", machine.NodeIP+":0"); err != nil {
		t.Errorf("the node's address is not there: %v", err)
	}
}

func TestProcessesAreItsOwn(t *testing.T) {
	pids, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	if len(pids) > 4 {
		t.Errorf("%d processes are visible; want the first one and the tests", len(pids))
	}
}

func TestOrphansAreReaped(t *testing.T) {
	out, err := exec.Command("sh", "-c", "sleep 0 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(string(out))
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join("/proc", pid)); err != nil {
			return
		}
	}
	t.Errorf("process %s has ended and is still there", pid)
}
