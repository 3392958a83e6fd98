// Package stats measures what the node, its Pods and their containers use, from cgroups
// (v1 and v2) and /proc, in the form of the kubelet's Summary API and of its metrics.
//
// Rates need two looks: processor time is read every ten seconds by Run, everything else
// only when somebody asks. The package changes nothing and keeps nothing on disk; after a
// restart the first rates are there ten seconds later.
package stats

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	// sampleInterval is how often processor time is read.
	sampleInterval = 10 * time.Second
	// shortestWindow is the least time over which a rate means something.
	shortestWindow = 5 * time.Second
)

// Lister is what the runtime holds; runtime.Runtime has it.
type Lister interface {
	List(ctx context.Context) ([]runtime.PodState, error)
}

// Options are what a Sampler works with.
type Options struct {
	NodeName string
	Runtime  Lister
	// CgroupMount is usually /sys/fs/cgroup, ProcMount /proc.
	CgroupMount, ProcMount string
	// PodsCgroup is the cgroup above those of all Pods.
	PodsCgroup string
	// RootDir is on the file system that the node reports.
	RootDir string
	// Disks measures what Pods have on disk, ImageFolder is on the file system of images
	// and writable layers; without them that is left out.
	Disks       *Disks
	ImageFolder func(ctx context.Context) (string, error)
	Clock       clock.WithTicker
}

// Sampler measures.
type Sampler struct {
	Options
	cgroups *cgroupReader
	// started is since when the node is measured.
	started time.Time

	mu sync.Mutex
	// older and newer are processor times by cgroup, of two looks after another.
	older, newer cpuTimes
}

// cpuTimes are the processor times of one look, in nanoseconds by cgroup.
type cpuTimes struct {
	at    time.Time
	usage map[string]cpuTime
}

type cpuTime struct {
	at    time.Time
	nanos uint64
}

// New returns a Sampler.
func New(o Options) *Sampler {
	return &Sampler{Options: o, cgroups: newCgroupReader(o.CgroupMount), started: o.Clock.Now()}
}

// Run reads processor times until ctx ends, so that rates are known when asked for.
func (s *Sampler) Run(ctx context.Context) {
	ticker := s.Clock.NewTicker(sampleInterval)
	defer ticker.Stop()
	for {
		if err := s.sample(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).V(2).Info("Cannot read what Pods use, will try again", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

func (s *Sampler) sample(ctx context.Context) error {
	pods, err := s.Runtime.List(ctx)
	if err != nil {
		return fmt.Errorf("listing the containers: %w", err)
	}
	s.mu.Lock()
	look := cpuTimes{at: s.Clock.Now(), usage: make(map[string]cpuTime, len(s.newer.usage))}
	s.mu.Unlock()
	read := func(cgroup string) {
		if nanos, err := s.cgroups.cpu(cgroup); err == nil { // else it has just gone
			look.usage[cgroup] = cpuTime{s.Clock.Now(), nanos}
		}
	}
	read(rootCgroup)
	for _, pod := range pods {
		if !runs(pod) {
			continue
		}
		read(sandbox(pod).CgroupParent)
		for _, c := range pod.Containers {
			if c.State == runtime.Running {
				read(c.CgroupPath)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.older, s.newer = s.newer, look
	return nil
}

// rate returns how many nanoseconds of processor time per second the cgroup used up to
// now; false when that is not known. started is when its first process did.
func (s *Sampler) rate(cgroup string, now cpuTime, started time.Time) (uint64, bool) {
	s.mu.Lock()
	older, newer := s.older, s.newer
	s.mu.Unlock()
	for _, look := range []cpuTimes{newer, older} {
		base, ok := look.usage[cgroup]
		if !ok && !look.at.IsZero() && started.After(look.at) {
			base, ok = cpuTime{at: started}, true // all it used was after the look
		}
		if ok && now.at.Sub(base.at) >= shortestWindow && now.nanos >= base.nanos {
			return uint64(float64(now.nanos-base.nanos) / now.at.Sub(base.at).Seconds()), true
		}
	}
	return 0, false
}

// sandbox returns the running sandbox of a Pod, nil without one.
func sandbox(pod runtime.PodState) *runtime.Sandbox {
	for i := range pod.Sandboxes {
		if pod.Sandboxes[i].State == runtime.Running {
			return &pod.Sandboxes[i]
		}
	}
	return nil
}

func runs(pod runtime.PodState) bool { return sandbox(pod) != nil }
