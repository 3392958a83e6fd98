package hostfiles

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestRenderHosts(t *testing.T) {
	got := RenderHosts([]string{"10.244.0.5", "fd00::5"}, "web", "sub.ns.svc.cluster.local", []corev1.HostAlias{
		{IP: "192.0.2.1", Hostnames: []string{"a", "b"}}, {IP: "192.0.2.2", Hostnames: []string{"c"}},
	})
	want := "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n" +
		"10.244.0.5\tweb.sub.ns.svc.cluster.local\tweb\nfd00::5\tweb.sub.ns.svc.cluster.local\tweb\n" +
		"\n# Entries added by HostAliases.\n192.0.2.1\ta\tb\n192.0.2.2\tc\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	got = RenderHostNetworkHosts("127.0.0.1 localhost\n", nil)
	if want := "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestHostname(t *testing.T) {
	long := strings.Repeat("a", 62) + "-tail"
	tests := map[string]struct {
		name, hostname, subdomain string
		want, wantDomain          string
		wantErr                   string
	}{
		"the Pod's name":           {name: "web-1", want: "web-1"},
		"spec.hostname":            {name: "web-1", hostname: "db", want: "db"},
		"a long name is cut":       {name: long, want: strings.Repeat("a", 62)},
		"with a subdomain":         {name: "web", subdomain: "sub", want: "web", wantDomain: "sub.ns.svc.cluster.local"},
		"a bad hostname is named":  {name: "web", hostname: "A_b", wantErr: `spec.hostname "A_b" is not a DNS label`},
		"a bad subdomain is named": {name: "web", subdomain: "a.b", wantErr: `spec.subdomain "a.b" is not a DNS label`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: tt.name, Namespace: "ns"}}
			pod.Spec.Hostname, pod.Spec.Subdomain = tt.hostname, tt.subdomain
			hostname, domain, err := Hostname(pod, "cluster.local")
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("got %v, want %s", err, tt.wantErr)
				}
				return
			}
			if err != nil || hostname != tt.want || domain != tt.wantDomain {
				t.Errorf("got %q, %q, %v", hostname, domain, err)
			}
		})
	}
}

func TestKernelHostname(t *testing.T) {
	long := strings.Repeat("a", 40)
	tests := map[string]struct {
		edit    func(*keelsonv1.Pod)
		want    string
		wantErr string
	}{
		"the short name":                 {edit: func(*keelsonv1.Pod) {}, want: "web"},
		"short though there is a domain": {edit: func(pod *keelsonv1.Pod) { pod.Spec.Subdomain = "sub" }, want: "web"},
		"with the domain": {edit: func(pod *keelsonv1.Pod) {
			pod.Spec.Subdomain, pod.Spec.SetHostnameAsFQDN = "sub", new(true)
		}, want: "web.sub.ns.svc.cluster.local"},
		"there is no domain": {edit: func(pod *keelsonv1.Pod) { pod.Spec.SetHostnameAsFQDN = new(true) }, want: "web"},
		"another name": {edit: func(pod *keelsonv1.Pod) {
			pod.Spec.HostnameOverride, pod.Spec.Subdomain = new("db.example.org"), "sub"
		}, want: "db.example.org"},
		"too long for the kernel": {edit: func(pod *keelsonv1.Pod) {
			pod.Spec.Hostname, pod.Spec.Subdomain, pod.Spec.SetHostnameAsFQDN = long, "sub", new(true)
		}, wantErr: "failed to construct FQDN from pod hostname and cluster domain, FQDN " + long + ".sub.ns.svc.cluster.local is too long (64 characters is the max, 65 characters requested)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "ns"}}
			tt.edit(pod)
			got, err := KernelHostname(pod, "cluster.local")
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got != tt.want || text != tt.wantErr {
				t.Errorf("got %q, %q; want %q, %q", got, text, tt.want, tt.wantErr)
			}
		})
	}
}

const machineText = `# comment
; comment
nameserver 192.0.2.53
nameserver 192.0.2.54
search one.test
search example.test. corp.test .
options timeout:2 rotate
options timeout:3
sortlist ignored
nameserver
`

func TestComputeResolver(t *testing.T) {
	machine := ParseResolver(machineText)
	cluster := ClusterDNS{Servers: []string{"10.254.0.10"}, Domain: "cluster.local"}
	clusterFirst := Resolver{
		Nameservers: []string{"10.254.0.10"},
		Searches:    []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.test", "corp.test"},
		Options:     []string{"ndots:5"},
	}
	theMachines := Resolver{
		Nameservers: []string{"192.0.2.53", "192.0.2.54"}, Searches: []string{"example.test", "corp.test"},
		Options: []string{"timeout:3", "rotate"},
	}
	tests := map[string]struct {
		policy      corev1.DNSPolicy
		hostNetwork bool
		config      *corev1.PodDNSConfig
		cluster     ClusterDNS
		want        Resolver
		wantNotice  string
	}{
		"ClusterFirst":                       {policy: corev1.DNSClusterFirst, cluster: cluster, want: clusterFirst},
		"no policy is ClusterFirst":          {cluster: cluster, want: clusterFirst},
		"ClusterFirst on the host's network": {policy: corev1.DNSClusterFirst, hostNetwork: true, cluster: cluster, want: theMachines},
		"ClusterFirstWithHostNet":            {policy: corev1.DNSClusterFirstWithHostNet, hostNetwork: true, cluster: cluster, want: clusterFirst},
		"Default":                            {policy: corev1.DNSDefault, cluster: cluster, want: theMachines},
		"ClusterFirst without a cluster DNS": {policy: corev1.DNSClusterFirst, want: theMachines, wantNotice: "MissingClusterDNS"},
		"None with dnsConfig": {
			policy: corev1.DNSNone, cluster: cluster,
			config: &corev1.PodDNSConfig{Nameservers: []string{"198.51.100.1"}, Searches: []string{"x.test"},
				Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("2")}, {Name: "debug"}}},
			want: Resolver{Nameservers: []string{"198.51.100.1"}, Searches: []string{"x.test"}, Options: []string{"ndots:2", "debug"}},
		},
		"dnsConfig adds and replaces": {
			policy: corev1.DNSClusterFirst, cluster: cluster,
			config: &corev1.PodDNSConfig{Nameservers: []string{"10.254.0.10", "198.51.100.1"}, Searches: []string{"x.test", "corp.test"},
				Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("2")}}},
			want: Resolver{
				Nameservers: []string{"10.254.0.10", "198.51.100.1"},
				Searches:    append(append([]string{}, clusterFirst.Searches...), "x.test"), Options: []string{"ndots:2"},
			},
		},
		"too many nameservers": {
			policy: corev1.DNSDefault,
			config: &corev1.PodDNSConfig{Nameservers: []string{"198.51.100.1", "198.51.100.2"}},
			want: Resolver{Nameservers: []string{"192.0.2.53", "192.0.2.54", "198.51.100.1"},
				Searches: theMachines.Searches, Options: theMachines.Options},
			wantNotice: "DNSConfigForming",
		},
		"a search domain that is too long": {
			policy: corev1.DNSNone, config: &corev1.PodDNSConfig{Nameservers: []string{"198.51.100.1"}, Searches: []string{strings.Repeat("a", 300), "ok.test"}},
			want: Resolver{Nameservers: []string{"198.51.100.1"}, Searches: []string{"ok.test"}}, wantNotice: "DNSConfigForming",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}}
			pod.Spec.DNSPolicy, pod.Spec.HostNetwork, pod.Spec.DNSConfig = tt.policy, tt.hostNetwork, tt.config
			got, notices := ComputeResolver(pod, tt.cluster, machine)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("resolver (-want +got):\n%s", diff)
			}
			if tt.wantNotice == "" && len(notices) > 0 || tt.wantNotice != "" && (len(notices) != 1 || notices[0].Reason != tt.wantNotice) {
				t.Errorf("notices %v", notices)
			}
		})
	}
	if diff := cmp.Diff(theMachines, machine); diff != "" {
		t.Errorf("the machine's resolver was changed:\n%s", diff)
	}
}

// The keywords domain and search say the same, and the last one counts: resolv.conf(5).
func TestParseResolver(t *testing.T) {
	for text, want := range map[string][]string{
		"domain one.test": {"one.test"},
		"search one.test two.test\ndomain three.test": {"three.test"},
		"domain three.test\nsearch one.test two.test": {"one.test", "two.test"},
		"domain": nil,
	} {
		if diff := cmp.Diff(want, ParseResolver(text).Searches); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestRenderIsReadBack(t *testing.T) {
	want := Resolver{Nameservers: []string{"192.0.2.1"}, Searches: []string{"a.test", "b.test"}, Options: []string{"ndots:5"}}
	if diff := cmp.Diff(want, ParseResolver(want.Render())); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestPodsGetNoServerOfTheMachineItself(t *testing.T) {
	for name, tt := range map[string]struct {
		machine, want []string
		hostNetwork   bool
	}{
		"one of each kind":                {[]string{"127.0.0.1", "192.0.2.53", "::1"}, []string{"192.0.2.53"}, false},
		"one of each, the host's network": {[]string{"127.0.0.1", "192.0.2.53"}, []string{"127.0.0.1", "192.0.2.53"}, true},
		"no other":                        {[]string{"127.0.0.53"}, []string{"127.0.0.53"}, false},
		"none of its own":                 {[]string{"192.0.2.53", "2001:db8::53"}, []string{"192.0.2.53", "2001:db8::53"}, false},
	} {
		pod := &keelsonv1.Pod{}
		pod.Spec.DNSPolicy, pod.Spec.HostNetwork = corev1.DNSDefault, tt.hostNetwork
		machine := Resolver{Nameservers: tt.machine}
		got, _ := ComputeResolver(pod, ClusterDNS{}, machine)
		if diff := cmp.Diff(tt.want, got.Nameservers); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
