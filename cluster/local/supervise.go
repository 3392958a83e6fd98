package local

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/cluster/internal/files"
	"github.com/keelson-dev/keelson/cluster/pki"
	"github.com/keelson-dev/keelson/cluster/supervisor"
	"github.com/keelson-dev/keelson/version"
)

// renewPeriod is how often the supervisor looks for certificates about to expire.
const renewPeriod = time.Hour

// Supervise keeps the cluster in the data directory up until ctx ends. Up starts
// it in the background; it is a command of its own so that it can be one.
func Supervise(ctx context.Context, o Options) error {
	if o.AsService {
		if err := takeOver(ctx, o); err != nil {
			return err
		}
	}
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return err
	}
	s, ok, err := readSettings(l.settingsFile())
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s holds no cluster: start one with 'keelson up'", l.Data)
	}
	self, err := selfPath()
	if err != nil {
		return err
	}
	store := pki.NewStore(l.pkiDir(), clock.RealClock{})
	p := plan{layout: l, settings: s, programs: findPrograms(self, os.Getenv), store: store, garbage: os.Getenv("GOGC")}
	if p.memory, err = memoryOfMachine(); err != nil {
		return err
	}
	if err := prepareFolders(l, s); err != nil {
		return err
	}
	if s.several() {
		p.machine = newMachine(l, s)
	}
	if p.dnsImage, err = p.writeDNSImage(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	probes := newProbes(store, s)
	overlay, err := readOverlay(l.nodeConfigFile())
	if err != nil {
		return err
	}
	probes.joining.Overlay, probes.joining.OverlayPort = overlay.Overlay, overlay.OverlayPort
	var background sync.WaitGroup
	background.Go(func() { keepCredentials(ctx, clock.RealClock{}, store, l) })
	var changes chan supervisor.Change
	if s.several() {
		changes = make(chan supervisor.Change)
		background.Go(func() { p.keepNodes(ctx, probes, changes) })
	}
	err = supervisor.Run(ctx, supervisor.Options{
		Components: p.components(probes), Changes: changes, Version: version.Get().String(),
		Owner: l.Data, LogDir: l.logDir(), StateFile: l.stateFile(), LockFile: l.supervisorLock(), Clock: clock.RealClock{},
		Prepare: sayReady,
	})
	stop()
	background.Wait()
	return err
}

func prepareFolders(l Layout, s Settings) error {
	for _, dir := range []string{l.configDir(), l.webhookDir(), l.etcdDir(), l.staticPodsDir(), l.imagesDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("prepare the data directory: %w", err)
		}
	}
	if s.several() || !s.OwnContainerd {
		return nil
	}
	config := []byte(containerdConfig(l))
	if now, err := os.ReadFile(l.containerdConfig()); err == nil && bytes.Equal(now, config) {
		return nil // a full disk must not keep down from starting containerd
	}
	return files.Replace(l.containerdConfig(), config, 0o600)
}

func memoryOfMachine() (uint64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("find the size of memory: %w", err)
	}
	return info.Totalram * uint64(info.Unit), nil
}

// keepCredentials renews certificates while the cluster runs.
func keepCredentials(ctx context.Context, c clock.WithTicker, store *pki.Store, l Layout) {
	ticker := c.NewTicker(renewPeriod)
	defer ticker.Stop()
	log := klog.FromContext(ctx)
	for {
		var issued []pki.Issued
		s, known, err := readSettings(l.settingsFile()) // nodes come and go
		if err == nil && known {
			issued, err = ensureCredentials(store, l, s)
		}
		if err != nil {
			log.Error(err, "Cannot renew certificates and will try again", "after", renewPeriod)
		}
		for _, i := range issued {
			log.Info("Issued certificate", "name", i.Name, "because", i.Reason)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}
