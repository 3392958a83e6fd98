package admission

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestPrepareService(t *testing.T) {
	const nodePortService = `{"type":"NodePort","externalTrafficPolicy":"Cluster","ports":[{"port":80,"nodePort":30001}]}`
	for name, tc := range map[string]struct{ spec, old, want string }{
		"addresses of our own range":         {`{"clusterIP":"10.254.0.9","clusterIPs":["10.254.0.9"]}`, "", `{}`},
		"only one of the two address fields": {`{"clusterIP":"10.254.0.9"}`, "", `{}`},
		"no address at all stays":            {`{"clusterIP":"None","clusterIPs":["None"]}`, "", `{"clusterIP":"None","clusterIPs":["None"]}`},
		"what is no address stays":           {`{"clusterIP":"10.254.0.9","clusterIPs":["x"]}`, "", `{"clusterIP":"10.254.0.9","clusterIPs":["x"]}`},
		"an address of the wrong type stays": {`{"clusterIP":7}`, "", `{"clusterIP":7}`},
		"an address of each family":          {`{"clusterIP":"10.254.0.9","clusterIPs":["10.254.0.9","fd00::1"]}`, "", `{}`},
		"three addresses stay":               {`{"clusterIPs":["10.254.0.9","fd00::1","fd00::2"]}`, "", `{"clusterIPs":["10.254.0.9","fd00::1","fd00::2"]}`},
		"families, which are ours to judge":  {`{"ipFamilies":["IPv6","IPv4"],"ipFamilyPolicy":"RequireDualStack"}`, "", `{}`},
		"what is no family stays":            {`{"ipFamilies":["IPv5"],"ipFamilyPolicy":"SingleStack"}`, "", `{"ipFamilies":["IPv5"],"ipFamilyPolicy":"SingleStack"}`},
		"a family twice stays":               {`{"ipFamilies":["IPv4","IPv4"]}`, "", `{"ipFamilies":["IPv4","IPv4"]}`},
		"what is no policy stays":            {`{"ipFamilyPolicy":"Both"}`, "", `{"ipFamilyPolicy":"Both"}`},
		"the port of health checks":          {`{"type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":31000}`, "", `{"type":"LoadBalancer","externalTrafficPolicy":"Local"}`},
		"one without a use stays":            {`{"type":"LoadBalancer","externalTrafficPolicy":"Cluster","healthCheckNodePort":31000}`, "", `{"type":"LoadBalancer","externalTrafficPolicy":"Cluster","healthCheckNodePort":31000}`},
		"an alias has no address":            {`{"type":"ExternalName","clusterIP":"10.254.0.9"}`, "", `{"type":"ExternalName","clusterIP":"10.254.0.9"}`},
		"becoming an alias drops the address": {`{"type":"ExternalName","clusterIP":"10.254.0.9","clusterIPs":["10.254.0.9"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","externalTrafficPolicy":"Cluster","ports":[{"port":80,"nodePort":30001}]}`,
			`{"type":"NodePort","clusterIP":"10.254.0.9","clusterIPs":["10.254.0.9"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","externalTrafficPolicy":"Cluster","ports":[{"port":80,"nodePort":30001}]}`, `{"type":"ExternalName","ports":[{"port":80}]}`},
		"so does one that clears it itself": {`{"type":"ExternalName","clusterIP":"","clusterIPs":["10.254.0.9"]}`,
			`{"type":"ClusterIP","clusterIP":"10.254.0.9","clusterIPs":["10.254.0.9"]}`, `{"type":"ExternalName"}`},
		"another address is refused by upstream": {`{"type":"ExternalName","clusterIP":"10.254.0.8"}`,
			`{"type":"ClusterIP","clusterIP":"10.254.0.9","clusterIPs":["10.254.0.9"]}`, `{"type":"ExternalName","clusterIP":"10.254.0.8"}`},
		"no load balancer any more": {`{"type":"ClusterIP","loadBalancerClass":"a/b","allocateLoadBalancerNodePorts":true,"externalTrafficPolicy":"Local","healthCheckNodePort":31000,"ports":[]}`,
			`{"type":"LoadBalancer","loadBalancerClass":"a/b","allocateLoadBalancerNodePorts":true,"externalTrafficPolicy":"Local","healthCheckNodePort":31000}`, `{"type":"ClusterIP","ports":[]}`},
		"external addresses keep the policy": {`{"type":"ClusterIP","externalIPs":["192.0.2.1"],"externalTrafficPolicy":"Cluster"}`,
			nodePortService, `{"type":"ClusterIP","externalIPs":["192.0.2.1"],"externalTrafficPolicy":"Cluster"}`},
		"node ports of a type that has them":    {`{"type":"NodePort","ports":[{"port":80,"nodePort":80},{"port":81,"nodePort":70000},{"port":82,"nodePort":"x"}]}`, "", `{"type":"NodePort","ports":[{"port":80},{"port":81,"nodePort":70000},{"port":82,"nodePort":"x"}]}`},
		"node ports of a type without":          {`{"type":"ClusterIP","ports":[{"port":80,"nodePort":30001}]}`, "", `{"type":"ClusterIP","ports":[{"port":80,"nodePort":30001}]}`},
		"leaving the type drops what was given": {`{"type":"ClusterIP","externalTrafficPolicy":"Cluster","ports":[{"port":80,"nodePort":30001}]}`, nodePortService, `{"type":"ClusterIP","ports":[{"port":80}]}`},
		"but not what is new":                   {`{"type":"ClusterIP","externalTrafficPolicy":"Local","ports":[{"port":80,"nodePort":30002}]}`, nodePortService, `{"type":"ClusterIP","externalTrafficPolicy":"Local","ports":[{"port":80,"nodePort":30002}]}`},
		"ports of the wrong type stay":          {`{"type":"NodePort","ports":{"port":80}}`, "", `{"type":"NodePort","ports":{"port":80}}`},
	} {
		t.Run(name, func(t *testing.T) { expectPrepared(t, prepareService, tc.spec, tc.old, tc.want) })
	}
}

func stored(clusterIP string, ports ...corev1.ServicePort) *keelsonv1.Service {
	return &keelsonv1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "other"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: clusterIP, ClusterIPs: []string{clusterIP}, Ports: ports},
	}
}

func TestRestoreAddresses(t *testing.T) {
	type pair struct {
		one  string
		list []string
	}
	const a, b = "10.254.0.1", "10.254.0.2"
	for name, tc := range map[string]struct {
		user, want pair
		old        *keelsonv1.Service
	}{
		"none asked for":                  {pair{}, pair{}, nil},
		"one field given on creation":     {pair{a, nil}, pair{a, []string{a}}, nil},
		"only the list given on creation": {pair{"", []string{a}}, pair{"", []string{a}}, nil},
		"none given on update keeps it":   {pair{}, pair{a, []string{a}}, stored(a)},
		"the list follows the one":        {pair{b, []string{a}}, pair{b, []string{b}}, stored(a)},
		"the list cleared, the one kept":  {pair{a, nil}, pair{a, []string{a}}, stored(a)},
		"the one cleared, the list kept":  {pair{"", []string{a}}, pair{a, []string{a}}, stored(a)},
		"both changed":                    {pair{b, []string{b}}, pair{b, []string{b}}, stored(a)},
		"headless stays headless":         {pair{}, pair{"None", []string{"None"}}, stored("None")},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &corev1.ServiceSpec{ClusterIP: "made up", ClusterIPs: []string{"made up"}}
			restoreAddresses(spec, &corev1.ServiceSpec{ClusterIP: tc.user.one, ClusterIPs: tc.user.list}, tc.old)
			if diff := cmp.Diff(tc.want, pair{spec.ClusterIP, spec.ClusterIPs}, cmp.AllowUnexported(pair{})); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRestoreNodePorts(t *testing.T) {
	port := func(name string, number int32) corev1.ServicePort {
		return corev1.ServicePort{Name: name, NodePort: number}
	}
	for name, tc := range map[string]struct {
		old        *keelsonv1.Service
		user, want []corev1.ServicePort
	}{
		"none asked for":                        {nil, []corev1.ServicePort{port("a", 0)}, []corev1.ServicePort{port("a", 0)}},
		"one asked for":                         {nil, []corev1.ServicePort{port("a", 30001)}, []corev1.ServicePort{port("a", 30001)}},
		"given before, by name, in any order":   {stored("", port("a", 30001), port("b", 30002)), []corev1.ServicePort{port("b", 0), port("a", 0)}, []corev1.ServicePort{port("b", 30002), port("a", 30001)}},
		"a new port beside a known one":         {stored("", port("a", 30001)), []corev1.ServicePort{port("a", 0), port("n", 0)}, []corev1.ServicePort{port("a", 30001), port("n", 0)}},
		"another port took over what was given": {stored("", port("a", 30001)), []corev1.ServicePort{port("a", 0), port("n", 30001)}, []corev1.ServicePort{port("a", 0), port("n", 30001)}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort}
			for _, p := range tc.user {
				spec.Ports = append(spec.Ports, port(p.Name, 29999)) // made up by the dry run
			}
			restoreNodePorts(spec, &corev1.ServiceSpec{Ports: tc.user}, tc.old)
			if diff := cmp.Diff(tc.want, spec.Ports); diff != "" {
				t.Errorf("ports (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAllocationRules(t *testing.T) {
	tcp := func(number int32) corev1.ServicePort { return corev1.ServicePort{NodePort: number} }
	udp := func(number int32) corev1.ServicePort {
		return corev1.ServicePort{NodePort: number, Protocol: corev1.ProtocolUDP}
	}
	outOfRange := "provided port is not in the valid range. The range of valid ports is 30000-32767"
	for name, tc := range map[string]struct {
		namespace, name, clusterIP string
		ports                      []corev1.ServicePort
		old                        *keelsonv1.Service
		want                       []string
	}{
		"a free address and a free port":                     {clusterIP: "10.254.3.3", ports: []corev1.ServicePort{tcp(30001)}},
		"nothing asked for":                                  {},
		"headless":                                           {clusterIP: "None"},
		"an address that another one has":                    {clusterIP: "10.254.9.9", want: []string{`spec.clusterIPs: Invalid value: ["10.254.9.9"]: failed to allocate IP 10.254.9.9: provided IP is already allocated`}},
		"the network address":                                {clusterIP: "10.254.0.0", want: []string{`spec.clusterIPs: Invalid value: ["10.254.0.0"]: failed to allocate IP 10.254.0.0: the provided IP (10.254.0.0) is not in the valid range. The range of valid IPs is 10.254.0.0/16`}},
		"the first address":                                  {clusterIP: "10.254.0.1", want: []string{`spec.clusterIPs: Invalid value: ["10.254.0.1"]: failed to allocate IP 10.254.0.1: provided IP is already allocated`}},
		"the first address, of whom it is for":               {namespace: "default", name: "kubernetes", clusterIP: "10.254.0.1"},
		"a port of another one":                              {ports: []corev1.ServicePort{tcp(30009)}, want: []string{"spec.ports[0].nodePort: Invalid value: 30009: provided port is already allocated"}},
		"the same port of another protocol":                  {ports: []corev1.ServicePort{udp(30009), tcp(30001), udp(30001)}},
		"a port twice":                                       {ports: []corev1.ServicePort{tcp(30001), tcp(30001)}, want: []string{"spec.ports[1].nodePort: Duplicate value: 30001"}},
		"ports at both ends of the range":                    {ports: []corev1.ServicePort{tcp(30000), tcp(32767)}},
		"ports beyond both ends":                             {ports: []corev1.ServicePort{tcp(29999), tcp(32768)}, want: []string{"spec.ports[0].nodePort: Invalid value: 29999: " + outOfRange, "spec.ports[1].nodePort: Invalid value: 32768: " + outOfRange}},
		"what it has had since another range":                {clusterIP: "10.1.1.1", ports: []corev1.ServicePort{tcp(20)}, old: stored("10.1.1.1", tcp(20))},
		"one of its own and a second one of the same number": {ports: []corev1.ServicePort{tcp(30005), tcp(30005)}, old: stored("", tcp(30005)), want: []string{"spec.ports[1].nodePort: Duplicate value: 30005"}},
	} {
		t.Run(name, func(t *testing.T) {
			policy := newPolicy(t, stored("10.254.9.9", tcp(30009)))
			service := &keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: tc.namespace, Name: tc.name}}
			service.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: tc.clusterIP, Ports: tc.ports}
			if tc.clusterIP != "" {
				service.Spec.ClusterIPs = []string{tc.clusterIP}
			}
			var old *corev1.ServiceSpec
			if tc.old != nil {
				old = &tc.old.Spec
			}
			taken, err := policy.allocated(t.Context(), service)
			if err != nil {
				t.Fatal(err)
			}
			errs := policy.checkRequest(service, ownRequest(&service.Spec, old), taken)
			var got []string
			for _, e := range append(errs, checkNodePortsDistinct(&service.Spec)...) {
				got = append(got, e.Error())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOwnAllocationIsNotTaken(t *testing.T) {
	policy := newPolicy(t, stored("10.254.9.9", corev1.ServicePort{NodePort: 30009}))
	taken, err := policy.allocated(t.Context(), stored(""))
	if err != nil {
		t.Fatal(err)
	}
	if len(taken.addresses)+len(taken.ports) > 0 {
		t.Errorf("a Service's own addresses count as taken: %+v", taken)
	}
}

func TestServicesThatCannotBeListed(t *testing.T) {
	policy := newPolicy(t)
	policy.services = interceptor.NewClient(policy.services.(client.WithWatch), interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return errors.New("cache not filled")
		},
	})
	object := `{"apiVersion":"core.keelson.dev/v1","kind":"Service","metadata":{"name":"a"},"spec":{"type":"NodePort","ports":[{"port":80,"nodePort":30001}]}}`
	response := newHandler(&fakeOracle{}, policy, noToken).Handle(t.Context(), requestFor("Service", "CREATE", object, ""))
	if response.Allowed || !strings.Contains(response.Result.Message, "list Services to see which addresses are taken: cache not filled") {
		t.Errorf("allowed %t, message %q; want a refusal that says why", response.Allowed, response.Result.Message)
	}
}
