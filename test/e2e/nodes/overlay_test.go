package nodes

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestRoutesFollowTheNodes compares each node's routes with the Pod ranges of the others,
// and what the Nodes say of them.
func TestRoutesFollowTheNodes(t *testing.T) {
	for _, name := range nodeNames {
		eventually(t, eventual, "node "+name+" has the routes to all others", func() error {
			state, err := kubectl(t.Context(), "", "get", "node", name, "-o", `jsonpath={.status.conditions[?(@.type=="NetworkUnavailable")].reason}`)
			if err != nil {
				return fmt.Errorf("%w: %s", err, state)
			}
			if state != "RouteCreated" {
				return fmt.Errorf("NetworkUnavailable has the reason %q", state)
			}
			want, err := rangesBut(t, name)
			if err != nil {
				return err
			}
			got, err := tunnelRoutes(name)
			if err != nil {
				return err
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("routes %v through the tunnel, want %v", got, want)
			}
			return nil
		})
	}
}

// rangesBut are the Pod ranges of all nodes but one, as the kernel writes them.
func rangesBut(t *testing.T, name string) ([]string, error) {
	out, err := kubectl(t.Context(), "", "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR}{"\n"}{end}`)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var ranges []string
	for line := range strings.Lines(out) {
		node, cidr, _ := strings.Cut(strings.TrimSpace(line), " ")
		if node == name {
			continue
		}
		var a, b, c, d int
		if _, err := fmt.Sscanf(cidr, "%d.%d.%d.%d/24", &a, &b, &c, &d); err != nil {
			return nil, fmt.Errorf("range %q of node %s: %w", cidr, node, err)
		}
		ranges = append(ranges, fmt.Sprintf("%02X%02X%02X%02X", d, c, b, a))
	}
	slices.Sort(ranges)
	return ranges, nil
}

// tunnelRoutes are the destinations that a node has behind its tunnel.
func tunnelRoutes(name string) (routes []string, err error) {
	err = cluster.InNode(name, func() error {
		table, err := os.ReadFile("/proc/thread-self/net/route")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "kls-vxlan" {
				routes = append(routes, f[1])
			}
		}
		if len(routes) == 0 {
			return errors.New("no route through kls-vxlan")
		}
		return nil
	})
	slices.Sort(routes)
	return routes, err
}
