package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/dns/catalog"
	"github.com/keelson-dev/keelson/internal/apidial"
)

const (
	// defaultTTL is CoreDNS'.
	defaultTTL = 5
	maxTTL     = 3600
	// defaultStartup is how long a start waits for the API, as CoreDNS does.
	defaultStartup = 5 * time.Second
	syncPeriod     = 20 * time.Millisecond
)

// Register makes the directive known. It must be called once, before a Corefile is read.
func Register(ctx context.Context, userAgent string) {
	plugin.Register(Name, func(c *caddy.Controller) error { return setup(ctx, c, userAgent) })
}

func setup(ctx context.Context, c *caddy.Controller, userAgent string) error {
	s, err := parse(c)
	if err != nil {
		return plugin.Error(Name, err)
	}
	config, err := s.config()
	if err != nil {
		return plugin.Error(Name, err)
	}
	config.UserAgent = userAgent
	log := klog.FromContext(ctx).WithName(Name)
	apidial.Patient(config, log)
	client, err := catalog.Connect(config)
	if err != nil {
		return plugin.Error(Name, err)
	}
	known := catalog.New(s.read, clock.RealClock{})
	s.plugin.Catalog, s.plugin.Outside = known, upstream.New()
	ctx, stop := context.WithCancel(klog.NewContext(ctx, log))
	var running sync.WaitGroup
	c.OnStartup(func() error {
		s.plugin.Local = listenAddresses(dnsserver.GetConfig(c).ListenHosts)
		running.Go(func() { known.Run(ctx, client) })
		awaitSync(ctx, known, s.startup)
		return nil
	})
	c.OnShutdown(func() error {
		stop()
		running.Wait()
		return nil
	})
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		s.plugin.Next = next
		return s.plugin
	})
	return nil
}

// awaitSync gives the API some time before the first question is taken. What is asked
// before everything was read is answered with a server failure.
func awaitSync(ctx context.Context, known *catalog.Catalog, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	tick := time.NewTicker(syncPeriod)
	defer tick.Stop()
	for !known.Synced() {
		select {
		case <-ctx.Done():
			klog.FromContext(ctx).Info("Starting before everything has been read from the API server", "waited", atMost.String())
			return
		case <-tick.C:
		}
	}
}

// stanza is one directive of a Corefile.
type stanza struct {
	plugin     *Plugin
	read       catalog.Options
	kubeconfig string
	context    string
	startup    time.Duration
}

func (s *stanza) config() (*rest.Config, error) {
	if s.kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("reach the API server as a Pod does: %w (outside of a Pod give a kubeconfig)", err)
		}
		return config, nil
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: s.kubeconfig}, &clientcmd.ConfigOverrides{CurrentContext: s.context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", s.kubeconfig, err)
	}
	return config, nil
}

func parse(c *caddy.Controller) (*stanza, error) {
	var s *stanza
	for c.Next() {
		if s != nil {
			return nil, plugin.ErrOnce
		}
		s = &stanza{plugin: &Plugin{TTL: defaultTTL, Pods: PodsDisabled}, startup: defaultStartup}
		s.plugin.Zones = plugin.OriginsFromArgsOrServerBlock(c.RemainingArgs(), c.ServerBlockKeys)
		if s.plugin.primaryZone() == "" {
			return nil, c.Err("non-reverse zone name must be used")
		}
		for c.NextBlock() {
			if err := s.property(c, c.Val(), c.RemainingArgs()); err != nil {
				return nil, err
			}
		}
	}
	if len(s.read.Namespaces) > 0 && s.read.NamespaceSelector != nil {
		return nil, c.Err("namespaces and namespace_labels cannot both be set")
	}
	s.read.WithPods = s.plugin.Pods == PodsVerified
	if own, err := dns.ClientConfigFromFile("/etc/resolv.conf"); err == nil {
		s.plugin.Searches = own.Search
		plugin.Zones(s.plugin.Searches).Normalize()
	}
	return s, nil
}

// property takes one line of the block.
func (s *stanza) property(c *caddy.Controller, name string, args []string) error {
	set, known := properties[name]
	if !known {
		return c.Errf("unknown property '%s'", name)
	}
	if len(args) < set.least || set.most >= 0 && len(args) > set.most {
		return c.ArgErr()
	}
	if err := set.to(s, args); err != nil {
		return c.Errf("%s: %v", name, err)
	}
	return nil
}

// setter takes between least and most arguments; most -1 is any number.
type setter struct {
	least, most int
	to          func(s *stanza, args []string) error
}

var properties = map[string]setter{
	"pods":             {1, 1, (*stanza).setPods},
	"ttl":              {1, 1, (*stanza).setTTL},
	"startup_timeout":  {1, 1, (*stanza).setStartup},
	"namespace_labels": {1, -1, func(s *stanza, args []string) error { return setSelector(&s.read.NamespaceSelector, args) }},
	"labels":           {1, -1, func(s *stanza, args []string) error { return setSelector(&s.read.Selector, args) }},
	"namespaces": {1, -1, func(s *stanza, args []string) error {
		s.read.Namespaces = append(s.read.Namespaces, args...)
		return nil
	}},
	"kubeconfig": {1, 2, func(s *stanza, args []string) error {
		s.kubeconfig = args[0]
		if len(args) == 2 {
			s.context = args[1]
		}
		return nil
	}},
	"ignore": {1, 1, func(s *stanza, args []string) error {
		if args[0] != "empty_service" {
			return fmt.Errorf("unable to parse ignore value: '%s'", args[0])
		}
		s.plugin.IgnoreEmpty = true
		return nil
	}},
	"fallthrough":        {0, -1, func(s *stanza, args []string) error { s.plugin.Fall.SetZonesFromArgs(args); return nil }},
	"noendpoints":        {0, 0, func(s *stanza, _ []string) error { s.read.WithoutEndpoints = true; return nil }},
	"endpoint_pod_names": {0, 0, func(s *stanza, _ []string) error { s.plugin.PodNames = true; return nil }},
	"short_names":        {0, 0, func(s *stanza, _ []string) error { s.plugin.ShortNames = true; return nil }},
}

func (s *stanza) setPods(args []string) error {
	switch mode := PodMode(args[0]); mode {
	case PodsDisabled, PodsInsecure, PodsVerified:
		s.plugin.Pods = mode
		return nil
	}
	return fmt.Errorf("wrong value for pods: %s,  must be one of: disabled, verified, insecure", args[0])
}

func (s *stanza) setTTL(args []string) error {
	ttl, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if ttl < 0 || ttl > maxTTL {
		return fmt.Errorf("ttl must be in range [0, %d]: %d", maxTTL, ttl)
	}
	s.plugin.TTL = uint32(ttl)
	return nil
}

func (s *stanza) setStartup(args []string) error {
	d, err := time.ParseDuration(args[0])
	if err == nil && d < 0 {
		err = errors.New("must not be negative")
	}
	s.startup = d
	return err
}

// setSelector reads a selector that may have blanks in it.
func setSelector(to *labels.Selector, args []string) error {
	text := args[0]
	for _, more := range args[1:] {
		text += " " + more
	}
	selector, err := labels.Parse(text)
	if err != nil {
		return fmt.Errorf("unable to parse label selector value: '%s': %w", text, err)
	}
	*to = selector
	return nil
}

// listenAddresses are the addresses of this server, but loopback.
func listenAddresses(hosts []string) []netip.Addr {
	var found []netip.Addr
	add := func(text string) {
		address, err := netip.ParseAddr(text)
		if prefix, prefixErr := netip.ParsePrefix(text); prefixErr == nil {
			address, err = prefix.Addr(), nil
		}
		if err == nil && !address.IsLoopback() && !address.IsLinkLocalUnicast() && !address.IsUnspecified() {
			found = append(found, address.Unmap())
		}
	}
	for _, host := range hosts {
		if host != "" {
			add(host)
			continue
		}
		addresses, err := net.InterfaceAddrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			add(a.String())
		}
	}
	return found
}
