package join

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	envcluster "github.com/keelson-dev/keelson/test/env/cluster"
)

// checkNewAddress gives the second machine another address, as a router may after months,
// and asks for everything that depends on it.
func checkNewAddress(t *testing.T) {
	t.Helper()
	before := guestsContainer(t)
	next := netip.MustParseAddr("198.19.0.7")
	if err := machines.Enter(secondName, func() error { return envcluster.Readdress(second.Address, next) }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Node has the new address and is ready", func() error {
		want := next.String() + " True"
		got := kubectl(t, "get", "node", secondName, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address} {.status.conditions[?(@.type=="Ready")].status}`)
		if got != want {
			return fmt.Errorf("address and readiness are %q, want %q", got, want)
		}
		return nil
	})
	eventually(t, "kubectl logs answers, with a certificate for the new address", func() error {
		out, err := exec.Command(cluster.KubectlPath, "--kubeconfig", cluster.PlainKubeconfig(), "logs", "guest").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s\n%s", err, out, kubectl(t, "get", "csr"))
		}
		return nil
	})
	eventually(t, "the Pod is reached, and says where it is", func() error {
		pod := kubectl(t, "get", "pod", "guest", "-o", "jsonpath={.status.podIP} {.status.hostIP}")
		address, host, _ := strings.Cut(pod, " ")
		out, err := exec.Command("wget", "-q", "-O", "-", "-T", "5", "-t", "1", "http://"+address+":8080/").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "guest ") || host != next.String() {
			return fmt.Errorf("the Pod at %s of host %s answers: %w\n%s", address, host, err, out)
		}
		return nil
	})
	if now := guestsContainer(t); now != before {
		t.Errorf("the Pod's container was %s and is %s", before, now)
	}
}
