package nodes

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// familyServices are a Service of both families and one of IPv6 alone in front of the
// Pods of servers.
const familyServices = `
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec:
  type: NodePort
  ipFamilies: [IPv6]
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`

// sixth is the IPv6 address of a list, which holds one of each family.
func sixth(addresses ...string) (string, error) {
	v6 := slices.DeleteFunc(slices.Clone(addresses), func(text string) bool {
		a, err := netip.ParseAddr(text)
		return err != nil || !a.Is6()
	})
	if len(addresses) != 2 || len(v6) != 1 {
		return "", fmt.Errorf("%v is not one address of each family", addresses)
	}
	return v6[0], nil
}

// TestEverybodyReachesEverybodyByIPv6 is the matrix of requirement NET-12 once more, for
// the second family: Pods, nodes and Pods in the nodes' network, each to each.
func TestEverybodyReachesEverybodyByIPv6(t *testing.T) {
	s := newSpace(t)
	s.apply(servers + "---" + familyServices)
	pods, hosts := s.readyPods("web", nodeCount), s.readyPods("host", nodeCount)
	services := map[string]string{}
	for name, path := range map[string]string{"both": "{.spec.clusterIPs[1]}", "six": "{.spec.clusterIP}"} {
		services[name] = "http://" + net.JoinHostPort(s.run("get", "service", name, "-o", "jsonpath="+path), "80") + "/"
	}

	var urls, names, sources []string
	for _, pod := range pods {
		ip := sixthOf(t, pod.Status.PodIPs, func(p corev1.PodIP) string { return p.IP })
		urls, names, sources = append(urls, "http://"+net.JoinHostPort(ip, "8080")+"/"), append(names, pod.Name), append(sources, ip)
	}
	for _, host := range hosts {
		ip := sixthOf(t, host.Status.HostIPs, func(p corev1.HostIP) string { return p.IP })
		urls, names = append(urls, "http://"+net.JoinHostPort(ip, "8090")+"/"), append(names, host.Spec.NodeName)
	}
	for i, pod := range pods {
		for name, service := range services {
			eventually(t, soon, "Pod "+pod.Name+" reaches everybody and the Service "+name, func() error {
				answers, err := s.askFromPod(pod.Name, append(slices.Clone(urls), service)...)
				if err != nil {
					return err
				}
				return checkAnswers(answers, names, sources[i])
			})
		}
	}
	eventually(t, soon, "the name of a Service of IPv6 leads to it", func() error {
		_, err := s.askFromPod(pods[0].Name, "http://six."+s.name+".svc.cluster.local:80/")
		return err
	})

	outside := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	clients := map[string]*http.Client{"this machine": outside}
	for _, node := range nodeNames {
		clients["node "+node] = cluster.NodeClient(node)
	}
	port := s.run("get", "service", "six", "-o", "jsonpath={.spec.ports[0].nodePort}")
	for from, client := range clients {
		targets := append(slices.Clone(urls), services["both"], services["six"])
		for _, host := range hosts {
			targets = append(targets, "http://"+net.JoinHostPort(sixthOf(t, host.Status.HostIPs, func(p corev1.HostIP) string { return p.IP }), port)+"/")
		}
		for _, url := range targets {
			eventually(t, soon, from+" reaches "+url, func() error {
				_, err := askFrom(t.Context(), client, url)
				return err
			})
		}
	}
}

func sixthOf[T any](t *testing.T, list []T, text func(T) string) string {
	t.Helper()
	var addresses []string
	for _, a := range list {
		addresses = append(addresses, text(a))
	}
	ip, err := sixth(addresses...)
	if err != nil {
		t.Fatal(err)
	}
	return ip
}

// TestNodesHaveAddressesOfBothFamilies reads what the Nodes say, the same order in all.
func TestNodesHaveAddressesOfBothFamilies(t *testing.T) {
	for _, name := range nodeNames {
		out, err := kubectl(t.Context(), "", "get", "node", name, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address} {.spec.podCIDRs[*]}`)
		if err != nil {
			t.Fatalf("get Node %s: %v\n%s", name, err, out)
		}
		f := strings.Fields(out)
		if len(f) != 4 || !strings.HasPrefix(f[0], "198.19.0.") || !strings.HasPrefix(f[1], "fd00:198:19::") || !strings.HasPrefix(f[3], "fd00:10:244:") {
			t.Errorf("Node %s has the addresses and ranges %v", name, f)
		}
	}
}
