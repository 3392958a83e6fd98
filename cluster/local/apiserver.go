package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/cluster/pki"
)

// apiServerFlag is the name of a flag, with or without a value.
var apiServerFlag = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*(=.*)?$`)

// yieldingFlags are those of apiServerArgs that are a choice, not what the cluster needs.
var yieldingFlags = []string{"allow-privileged", "profiling"}

// flagName is the name in --NAME=VALUE or NAME=VALUE.
func flagName(arg string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
	return name
}

// normalizeAPIServerArgs returns NAME=VALUE with its dashes; nothing for a list of one empty
// word, which takes all back.
func normalizeAPIServerArgs(given []string) []string {
	if len(given) == 1 && given[0] == "" {
		return []string{}
	}
	var args []string
	for _, arg := range given {
		args = append(args, "--"+strings.TrimPrefix(arg, "--"))
	}
	return args
}

// checkAPIServerArgs refuses what is no flag, and flags that keelson up gives itself: what it
// starts afterwards relies on them.
func checkAPIServerArgs(given []string) error {
	own := append(plan{store: pki.NewStore("", clock.RealClock{})}.apiServerArgs(), "--version", "--help")
	var errs []error
	for _, arg := range normalizeAPIServerArgs(given) {
		name := flagName(arg)
		ours := slices.ContainsFunc(own, func(a string) bool { return flagName(a) == name })
		switch {
		case !apiServerFlag.MatchString(strings.TrimPrefix(arg, "--")):
			errs = append(errs, fmt.Errorf("--apiserver-arg: %q is not NAME=VALUE, such as enable-admission-plugins=AlwaysPullImages", strings.TrimPrefix(arg, "--")))
		case ours && !slices.Contains(yieldingFlags, name):
			errs = append(errs, fmt.Errorf("--apiserver-arg: %s is what keelson up decides%s", name, insteadOf(name)))
		}
	}
	return errors.Join(errs...)
}

// insteadOf says which flag of up does what one of the API server does.
func insteadOf(name string) string {
	switch name {
	case "bind-address", "advertise-address":
		return ": use --node-ip"
	case "secure-port":
		return ": use --apiserver-port"
	case "service-cluster-ip-range":
		return ": use --service-cidr"
	default:
		return ""
	}
}

// withAPIServerArgs adds given to args, whose flags they replace.
func withAPIServerArgs(args, given []string) []string {
	args = slices.DeleteFunc(args, func(arg string) bool {
		return slices.ContainsFunc(given, func(other string) bool { return flagName(other) == flagName(arg) })
	})
	return append(args, given...)
}

// checkAPIServerPort refuses a port that somebody else has: whoever asked for it would not
// find the API server where it was meant to be.
func checkAPIServerPort(o Options, node netip.Addr, m surroundings) error {
	if o.APIServerPort == 0 || m.free(node, o.APIServerPort) {
		return nil
	}
	return fmt.Errorf("--apiserver-port: cannot listen on %s: the port is taken, or the address is not this machine's", netip.AddrPortFrom(node, uint16(o.APIServerPort)))
}

// tryTimeout bounds a look at the flags of the API server.
const tryTimeout = 30 * time.Second

// tryAPIServerArgs asks the API server's own program whether it knows the flags and can read
// their values: whoever waits for a cluster should not wait for what can never start.
func tryAPIServerArgs(ctx context.Context, program string, args []string) error {
	if len(args) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, append(slices.Clone(args), "--version=true")...).CombinedOutput()
	if err == nil {
		return nil
	}
	return fmt.Errorf("--apiserver-arg: kube-apiserver does not take %s: %s", strings.Join(args, " "), complaint(out, err))
}

// complaint is the line of a program that says what is wrong with its flags.
func complaint(out []byte, err error) string {
	for line := range strings.Lines(string(out)) {
		if text, found := strings.CutPrefix(strings.TrimSpace(line), "Error: "); found {
			return text
		}
	}
	return cmp.Or(lastLines(out, 1), err.Error())
}
