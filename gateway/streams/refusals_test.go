package streams_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/gateway/nodes/nodestest"
	"github.com/keelson-dev/keelson/gateway/streams"
)

// TestRefusals: each in an API server's words, and before an agent sees anything.
func TestRefusals(t *testing.T) {
	const pods = "/api/v1/namespaces/default/pods/"
	type answer struct {
		Code    int32
		Reason  metav1.StatusReason
		Message string
	}
	bad := func(message string) answer {
		return answer{http.StatusBadRequest, metav1.StatusReasonBadRequest, message}
	}
	invalid := func(message string) answer {
		return answer{http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, `PodLogOptions "p" is invalid: ` + message}
	}
	notFound := func(message string) answer {
		return answer{http.StatusNotFound, metav1.StatusReasonNotFound, message}
	}
	unavailable := func(message string) answer {
		return answer{http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, message}
	}
	for name, test := range map[string]struct {
		method, path string
		header       http.Header
		want         answer
	}{
		"the log of no Pod":                       {path: pods + "ghost/log", want: notFound(`pods "ghost" not found`)},
		"the log of one of two containers":        {path: pods + "two/log", want: bad("a container name must be specified for pod two, choose one of: [init a b debug]")},
		"the log of a container that is not":      {path: pods + "p/log?container=x", want: bad("container x is not valid for pod p")},
		"the log of a Pod without containers":     {path: pods + "none/log", want: bad("a container name must be specified for pod none")},
		"a number that is none":                   {path: pods + "p/log?tailLines=x", want: bad(`strconv.ParseInt: parsing "x": invalid syntax`)},
		"a time that is none":                     {path: pods + "p/log?sinceTime=x", want: bad(`parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"`)},
		"fewer lines than none":                   {path: pods + "p/log?tailLines=-1", want: invalid("tailLines: Invalid value: -1: must be greater than or equal to 0")},
		"no byte at all":                          {path: pods + "p/log?limitBytes=0", want: invalid("limitBytes: Invalid value: 0: must be greater than 0")},
		"since no second":                         {path: pods + "p/log?sinceSeconds=0", want: invalid("sinceSeconds: Invalid value: 0: must be greater than 0")},
		"since two times":                         {path: pods + "p/log?sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z", want: invalid(`[]: Forbidden: at most one of ` + "`sinceTime` or `sinceSeconds`" + ` may be specified`)},
		"two mistakes at once":                    {path: pods + "p/log?limitBytes=0&tailLines=-1", want: invalid("[tailLines: Invalid value: -1: must be greater than or equal to 0, limitBytes: Invalid value: 0: must be greater than 0]")},
		"a stream that is none":                   {path: pods + "p/log?stream=Stdin", want: invalid(`stream: Unsupported value: "Stdin": supported values: "All", "Stderr", "Stdout"`)},
		"the last lines of one stream":            {path: pods + "p/log?stream=Stdout&tailLines=1", want: invalid(`[]: Forbidden: ` + "`tailLines` and specific `stream`" + ` are mutually exclusive for now`)},
		"the log of a Pod on no known node":       {path: pods + "lost/log", want: notFound(`nodes "gone" not found`)},
		"the log by POST":                         {method: "POST", path: pods + "p/log", want: answer{http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "the server does not allow this method on the requested resource"}},
		"exec by PUT":                             {method: "PUT", path: pods + "p/exec?command=x&stdout=1", want: answer{http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "the server does not allow this method on the requested resource"}},
		"exec without an upgrade":                 {path: pods + "p/exec?command=x&stdout=1", want: bad("Upgrade request required")},
		"exec by POST without an upgrade":         {method: "POST", path: pods + "p/exec?command=x&stdout=1", want: bad("Upgrade request required")},
		"a WebSocket without Connection: Upgrade": {path: pods + "p/exec?command=x&stdout=1", header: http.Header{"Upgrade": {"websocket"}, "Sec-Websocket-Protocol": {"v5.channel.k8s.io"}}, want: bad("Upgrade request required")},
		"exec without a command":                  {path: pods + "p/exec?stdout=1", want: bad("you must specify at least one command for the container")},
		"exec without a stream":                   {path: pods + "p/exec?command=x", want: bad("you must specify at least 1 of stdin, stdout, stderr")},
		"attach without a stream":                 {path: pods + "p/attach?stdout=false", want: bad("you must specify at least 1 of stdin, stdout, stderr")},
		"exec in a container that is not":         {path: pods + "p/exec?command=x&stdout=1&container=x", want: bad("container x is not valid for pod p")},
		"exec in a Pod without a node":            {path: pods + "pending/exec?command=x&stdout=1", want: bad("pod pending does not have a host assigned")},
		"attach to a Pod without a node":          {path: pods + "pending/attach?stdout=1", want: bad("pod pending does not have a host assigned")},
		"port-forward to a Pod without a node":    {path: pods + "pending/portforward", want: bad("pod pending does not have a host assigned")},
		"port-forward without an upgrade":         {path: pods + "p/portforward", want: bad("Upgrade request required")},
		"port-forward to a port that is none":     {path: pods + "p/portforward?ports=x", want: bad(`cannot convert to []int32: strconv.ParseUint: parsing "x": invalid syntax`)},
		"exec as a dry run":                       {path: pods + "p/exec?command=x&stdout=1&dryRun=All", want: bad("dryRun is not supported")},
		"a proxy as a dry run":                    {path: pods + "p/proxy/?dryRun=All", want: bad("dryRun is not supported")},
		"a proxy to a Pod without an address":     {path: pods + "pending/proxy/", want: bad("address not allowed")},
		"a proxy to a Pod on loopback":            {path: pods + "local/proxy/", want: bad("address not allowed")},
		"a proxy to a Pod with clouds' secrets":   {path: pods + "linklocal/proxy/", want: bad("address not allowed")},
		"a proxy to no Pod":                       {path: pods + "ghost:80/proxy/", want: notFound(`pods "ghost" not found`)},
		"a proxy to a Pod named in five parts":    {path: pods + "a:b:c:d:e/proxy/", want: bad(`invalid pod request "a:b:c:d:e"`)},
		"a proxy to a node named in five parts":   {path: "/api/v1/nodes/a:b:c:d:e/proxy/", want: bad(`invalid node request "a:b:c:d:e"`)},
		"a proxy to no node":                      {path: "/api/v1/nodes/ghost/proxy/", want: notFound(`nodes "ghost" not found`)},
		"a proxy to a node on loopback":           {path: "/api/v1/nodes/local/proxy/", want: bad("address not allowed")},
		"a proxy to a node with clouds' secrets":  {path: "/api/v1/nodes/https:linklocal:443/proxy/", want: bad("address not allowed")},
		"a proxy to a Service in five parts":      {path: "/api/v1/namespaces/default/services/a:b:c:d:e/proxy/", want: bad(`invalid service request "a:b:c:d:e"`)},
		"a proxy to no Service":                   {path: "/api/v1/namespaces/default/services/ghost/proxy/", want: unavailable(`no endpoints available for service "ghost"`)},
		"a proxy to a port of no Service":         {path: "/api/v1/namespaces/default/services/ghost:80/proxy/", want: notFound(`services "ghost" not found`)},
		"a proxy to a port that a Service lacks":  {path: "/api/v1/namespaces/default/services/web:81/proxy/", want: unavailable(`no service port 81 found for service "web"`)},
		"a proxy to a name that a Service lacks":  {path: "/api/v1/namespaces/default/services/web:other/proxy/", want: unavailable(`no endpoints available for service "web"`)},
		"a proxy to endpoints that are no Pods":   {path: "/api/v1/namespaces/default/services/web:80/proxy/", want: unavailable(`no endpoints available for service "web"`)},
		"a proxy by a method of nobody's":         {method: "PURGE", path: pods + "p/proxy/", want: answer{http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "the server does not allow this method on the requested resource"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t)
			f.AddAgent("n", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("the agent saw %s", r.URL) }))
			putPodsOfRefusals(f)
			code, body := f.ask(t, test.method, test.path, test.header)
			status := metav1.Status{}
			if err := json.Unmarshal([]byte(body), &status); err != nil || status.Kind != "Status" {
				t.Fatalf("got %d %s, want a Status", code, body)
			}
			got := answer{status.Code, status.Reason, status.Message}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if int32(code) != got.Code {
				t.Errorf("the code is %d and the Status says %d", code, got.Code)
			}
		})
	}
}

func putPodsOfRefusals(f *front) {
	f.PutPod(pod("p", "c"))
	f.PutPod(pod("none"))
	two := pod("two", "a", "b")
	two.Spec.InitContainers = []corev1.Container{{Name: "init"}}
	two.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug"}}}
	f.PutPod(two)
	pending := pod("pending", "c")
	pending.Spec.NodeName = ""
	pending.Status.PodIPs = nil
	f.PutPod(pending)
	lost := pod("lost", "c")
	lost.Spec.NodeName = "gone"
	f.PutPod(lost)
	for name, address := range map[string]string{"local": "127.0.0.1", "linklocal": "169.254.169.254"} {
		p := pod(name, "c")
		p.Status.PodIPs = []corev1.PodIP{{IP: address}}
		f.PutPod(p)
		f.Put("/nodes/"+name, nodestest.Node(name, address))
	}
	f.Put("/namespaces/default/services/web", service("web", corev1.ServicePort{Port: 80}))
	f.Put("/namespaces/default/endpoints/web", endpoints("web",
		corev1.EndpointAddress{IP: "10.0.0.1"},
		corev1.EndpointAddress{IP: "10.0.0.2", TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"}},
		corev1.EndpointAddress{IP: "10.244.0.5", TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "other", Name: "p"}},
		corev1.EndpointAddress{IP: "10.244.0.5", TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "ghost"}},
		corev1.EndpointAddress{IP: "127.0.0.1", TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "local"}},
	))
}

// ask sends one request and returns the whole answer.
func (f *front) ask(t *testing.T, method, path string, header http.Header) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	response, err := new(http.Transport).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestVerbsFor(t *testing.T) {
	for name, test := range map[string]struct {
		info request.RequestInfo
		want []string
	}{
		"a WebSocket to exec needs the right to create": {request.RequestInfo{Verb: "get", APIVersion: "v1", Resource: "pods", Subresource: "exec"}, []string{"get", "create"}},
		"so does one to attach":                         {request.RequestInfo{Verb: "get", APIVersion: "v1", Resource: "pods", Subresource: "attach"}, []string{"get", "create"}},
		"and one to port-forward":                       {request.RequestInfo{Verb: "get", APIVersion: "v1", Resource: "pods", Subresource: "portforward"}, []string{"get", "create"}},
		"a POST is a create":                            {request.RequestInfo{Verb: "create", APIVersion: "v1", Resource: "pods", Subresource: "exec"}, []string{"create"}},
		"a log is a get":                                {request.RequestInfo{Verb: "get", APIVersion: "v1", Resource: "pods", Subresource: "log"}, []string{"get"}},
		"a proxy has the verb of its method":            {request.RequestInfo{Verb: "get", APIVersion: "v1", Resource: "pods", Subresource: "proxy"}, []string{"get"}},
		"another group's exec is its own":               {request.RequestInfo{Verb: "get", APIGroup: "x.io", APIVersion: "v1", Resource: "pods", Subresource: "exec"}, []string{"get"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, streams.VerbsFor(&test.info)); diff != "" {
				t.Errorf("verbs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServes(t *testing.T) {
	for path, want := range map[string]bool{
		"v1/pods/log": true, "v1/pods/exec": true, "v1/pods/attach": true, "v1/pods/portforward": true,
		"v1/pods/proxy": true, "v1/services/proxy": true, "v1/nodes/proxy": true,
		"v1/pods/": false, "v1/pods/status": false, "v1/nodes/log": false, "v2/pods/log": false,
	} {
		part := strings.Split(path, "/")
		info := &request.RequestInfo{IsResourceRequest: true, APIVersion: part[0], Resource: part[1], Subresource: part[2]}
		if got := streams.Serves(info); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
		info.IsResourceRequest = false
		if streams.Serves(info) {
			t.Errorf("%s: a request that is for no resource is taken", path)
		}
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	for _, missing := range []string{"Upstream", "Nodes", "WriteError"} {
		f := newFront(t)
		options := f.options
		switch missing {
		case "Upstream":
			options.Upstream = nil
		case "Nodes":
			options.Nodes = nil
		case "WriteError":
			options.WriteError = nil
		}
		if _, err := streams.New(options); err == nil || !strings.Contains(err.Error(), "Options."+missing+" is missing") {
			t.Errorf("without %s: got %v", missing, err)
		}
	}
}
