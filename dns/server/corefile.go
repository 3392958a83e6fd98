package server

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/miekg/dns"
	"k8s.io/klog/v2"
)

// serverType is CoreDNS' name for itself in caddy.
const serverType = "dns"

// loader reads the Corefile, at the start and whenever the plug-in reload looks at it.
type loader struct {
	options Options
	log     klog.Logger
}

// Load implements caddy.Loader.
func (l loader) Load(string) (caddy.Input, error) {
	content, err := os.ReadFile(l.options.Corefile)
	if err != nil {
		return nil, fmt.Errorf("read the Corefile: %w", err)
	}
	if !hasServers(l.options.ResolvConf) {
		reduced, left, err := withoutForward(l.options.Corefile, content, l.options.ResolvConf)
		if err != nil {
			return nil, err
		}
		if left > 0 {
			l.log.V(1).Info("Names outside of the cluster are not resolved: there is no server for them", "file", l.options.ResolvConf)
		}
		content = reduced
	}
	return caddy.CaddyfileInput{Contents: content, Filepath: l.options.Corefile, ServerTypeName: serverType}, nil
}

// hasServers says whether a resolv.conf names a server that is not this process: inside
// a Pod, a loopback address is the Pod's own.
func hasServers(file string) bool {
	config, err := dns.ClientConfigFromFile(file)
	if err != nil {
		return false
	}
	for _, server := range config.Servers {
		if address, err := netip.ParseAddr(server); err == nil && !address.IsLoopback() {
			return true
		}
	}
	return false
}

// withoutForward blanks the directives `forward ZONE FILE`, with their blocks, out of a
// Corefile: CoreDNS would not start with them. Lines keep their numbers. It returns how
// many there were.
func withoutForward(name string, content []byte, file string) ([]byte, int, error) {
	blocks, err := caddyfile.Parse(name, bytes.NewReader(content), nil)
	if err != nil {
		return nil, 0, fmt.Errorf("parse the Corefile: %w", err)
	}
	lines, found := strings.SplitAfter(string(content), "\n"), 0
	for _, block := range blocks {
		for _, d := range directivesIn(block.Tokens["forward"]) {
			if imported := d[0].File != "" && d[0].File != name; imported || !onlyTo(d, file) {
				continue
			}
			found++
			for line := d[0].Line; line <= d[len(d)-1].Line; line++ {
				lines[line-1] = "\n"
			}
		}
	}
	return []byte(strings.Join(lines, "")), found, nil
}

// directivesIn splits the tokens of all directives of one name in a block.
func directivesIn(tokens []caddyfile.Token) [][]caddyfile.Token {
	var found [][]caddyfile.Token
	depth := 0
	for i, t := range tokens {
		if depth == 0 && t.Text == "forward" && (i == 0 || tokens[i-1].Line != t.Line) {
			found = append(found, nil)
		}
		switch t.Text {
		case "{":
			depth++
		case "}":
			depth--
		}
		found[len(found)-1] = append(found[len(found)-1], t)
	}
	return found
}

// onlyTo says whether all targets of a forward are that file.
func onlyTo(directive []caddyfile.Token, file string) bool {
	targets := 0
	for i, t := range directive {
		if i < 2 {
			continue
		}
		if t.Line != directive[0].Line || t.Text == "{" {
			break
		}
		if t.Text != file {
			return false
		}
		targets++
	}
	return targets > 0
}
