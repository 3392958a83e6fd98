package containerd_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkPod measures a Pod's way from nothing to a running container, without
// network and API: one after another, and twenty at once. Medians of its phases tell
// where the time goes.
func BenchmarkPod(b *testing.B) {
	for _, parallel := range []int{1, 20} {
		b.Run(fmt.Sprintf("%d at once", parallel), func(b *testing.B) {
			f := newFixture(b)
			first := f.newPod()
			first.shell("warm", "exit 0")
			f.removeAll(b)
			phases := &phases{}
			b.ResetTimer()
			b.StopTimer()
			for range b.N {
				pods := make([]*pod, parallel)
				for i := range pods {
					pods[i] = f.podWithoutSandbox()
				}
				b.StartTimer()
				var all sync.WaitGroup
				for _, p := range pods {
					all.Go(func() { phases.run(p) })
				}
				all.Wait()
				b.StopTimer()
				f.removeAll(b)
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N*parallel), "ms/Pod")
			phases.report(b)
		})
	}
}

// phases collects how long each step of each Pod took.
type phases struct {
	mu                     sync.Mutex
	sandbox, create, start []time.Duration
}

func (p *phases) run(one *pod) {
	ctx := context.Background()
	begin := time.Now()
	one.start()
	sandboxed := time.Now()
	id, err := one.CreateContainer(ctx, one.config("main", "sleep", "1000"))
	one.check(err)
	created := time.Now()
	one.check(one.StartContainer(ctx, id))
	started := time.Now()

	p.mu.Lock()
	defer p.mu.Unlock()
	p.sandbox = append(p.sandbox, sandboxed.Sub(begin))
	p.create = append(p.create, created.Sub(sandboxed))
	p.start = append(p.start, started.Sub(created))
}

func (p *phases) report(b *testing.B) {
	for name, took := range map[string][]time.Duration{"sandbox": p.sandbox, "create": p.create, "start": p.start} {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-"+name)
	}
}

func (f *fixture) removeAll(b *testing.B) {
	b.Helper()
	pods, err := f.List(context.Background())
	f.must(err)
	var all sync.WaitGroup
	for _, pod := range pods {
		all.Go(func() { f.removePod(context.Background(), pod) })
	}
	all.Wait()
}

// BenchmarkOutput measures how fast a container's output reaches its log: text in long
// writes, and the same in one write per line.
func BenchmarkOutput(b *testing.B) {
	const size = 64 << 20
	line := strings.Repeat("x", 99)
	for name, script := range map[string]string{
		"long writes":        fmt.Sprintf("yes %s | head -c %d", line, size),
		"one write per line": fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo %s; i=$((i+1)); done", size/16/100, line),
	} {
		b.Run(name, func(b *testing.B) {
			f := newFixture(b)
			p := f.newPod()
			var written int64
			before := f.cpuTime()
			b.ResetTimer()
			for range b.N {
				id := p.shell("talks", script)
				p.waitExited(id)
				info, err := os.Stat(p.container(id).LogPath)
				f.must(err)
				written += info.Size()
				f.must(os.Remove(p.container(id).LogPath))
			}
			b.ReportMetric(float64(written)/1e6/b.Elapsed().Seconds(), "logMB/s")
			b.ReportMetric(float64((f.cpuTime()-before).Microseconds())/(float64(written)/1e6), "us-CPU/logMB")
		})
	}
}

// cpuTime is what this process, which is the agent, and the shims have used, with all
// that the shims have started and waited for: loggers, runc and the containers.
func (f *fixture) cpuTime() time.Duration {
	pids := append(f.daemon.Shims(), os.Getpid())
	var ticks int64
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		f.must(err)
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		for _, field := range fields[11:15] { // utime, stime, cutime, cstime
			n, err := strconv.ParseInt(field, 10, 64)
			f.must(err)
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}
