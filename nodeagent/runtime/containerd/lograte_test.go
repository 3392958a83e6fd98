package containerd_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keelson-dev/keelson/nodeagent/logs"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// rateEnv is for how many seconds TestLogsAtFiftyMegabytesASecond writes.
const rateEnv = "KEELSON_TEST_LOG_SECONDS"

// TestLogsAtFiftyMegabytesASecond: a container writes 50 MB in each second while the agent
// that rotates its log, in files of 10 MiB, is killed and started again. It measures
// itself how long a write took at most: never longer than a restart, because nobody who
// dies is in its way. Three seconds by default:
//
//	KEELSON_TEST_LOG_SECONDS=60 go test -run FiftyMegabytes -v ./nodeagent/runtime/containerd
func TestLogsAtFiftyMegabytesASecond(t *testing.T) {
	seconds := 3
	if text := os.Getenv(rateEnv); text != "" {
		var err error
		if seconds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	f := newFixture(t)
	p := f.newPod()
	dir := t.TempDir()
	line := strings.Repeat("x", 99) + "\n"
	f.must(os.WriteFile(filepath.Join(dir, "block"), bytes.Repeat([]byte(line), 50_000), 0o644)) // 5 MB
	// Ten blocks a second; the time is in hundredths since the machine's start.
	script := fmt.Sprintf(`now() { read up rest < /proc/uptime; up=${up%%.*}${up#*.}; }
now; begin=$up; worst=0; i=0
while [ $i -lt %d ]; do
  now; before=$up
  cat /data/block
  now; took=$((up-before)); [ $took -gt $worst ] && worst=$took
  i=$((i+1)); ahead=$((begin+i*10-up))
  [ $ahead -gt 1 ] && usleep $((ahead*10000))
done
now; echo "$worst $((up-begin))" > /data/figures; echo end; sleep 1000`, seconds*10)
	config := p.config("talker", "sh", "-c", script)
	config.Mounts = []runtime.Mount{{HostPath: dir, ContainerPath: "/data"}}
	id := p.run(config)

	kills, longest := 0, time.Duration(0)
	for started := time.Now(); ; kills++ {
		away := time.Now()
		rounds, kill := f.startVictimWith(rotatorOrders{Now: started.Add(time.Duration(kills) * time.Hour), MaxSize: 10 << 20, MaxFiles: 5, Pause: 100 * time.Millisecond})
		for round := range 5 {
			if said, err := rounds.ReadString('\n'); err != nil || said != "rotated\n" {
				t.Fatalf("the victim said %q, %v", said, err)
			}
			if round == 0 {
				longest = max(longest, time.Since(away))
			}
		}
		kill()
		if _, err := os.Stat(filepath.Join(dir, "figures")); err == nil {
			break
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "figures"))
	f.must(err)
	var longestWrite, whole int
	if _, err := fmt.Sscan(string(text), &longestWrite, &whole); err != nil {
		t.Fatalf("figures %q: %v", text, err)
	}
	const tick = 10 * time.Millisecond
	worst, took := time.Duration(longestWrite)*tick, time.Duration(whole)*tick
	t.Logf("%d MB in %v, %.0f MB/s; the longest write of 5 MB took %v; the agent was killed %d times and away for %v at most",
		seconds*50, took, float64(seconds*50)/took.Seconds(), worst, kills+1, longest)
	if worst > longest+time.Second {
		t.Errorf("the container waited for %v, the agent was away for %v at most", worst, longest)
	}
	f.eventually("the last words are in the log", func() bool { return strings.HasSuffix(f.wholeLog(config.LogPath), "\nend\n") })
	if strings.Contains(f.wholeLog(config.LogPath), "were lost here") {
		t.Error("the log lacks output")
	}
	if files, err := logs.Rotated(config.LogPath); err != nil || kills > 0 && len(files) == 0 {
		t.Errorf("rotated files: %v, %v", files, err)
	}
	f.must(f.StopContainer(t.Context(), id, 0))
}
