package admission

import (
	"net/http"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
)

// FuzzHandle sends anything that is JSON, and some that is not: the answer is yes, or
// a refusal with a reason, and never a panic.
func FuzzHandle(f *testing.F) {
	for _, seed := range []struct{ object, old string }{
		{podJSON, ""}, {podFrom, podJSON}, {podOther, podJSON},
		{`{"metadata":{"name":"a"},"spec":{"type":"NodePort","clusterIP":"10.254.0.9","ports":[{"port":80,"nodePort":30001}]}}`, ""},
		{`{"metadata":{"name":"a"},"spec":{"type":"ClusterIP","ports":[]}}`, `{"spec":{"type":"NodePort","clusterIPs":["10.254.0.9"],"ports":[{"nodePort":30001}]}}`},
		{`{"metadata":{},"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":0.5}}}]}}}}`, ""},
		{`{"metadata":{"generateName":"a"},"subsets":[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":1}]}]}`, ""},
		{`{"spec":{"podCIDRs":["10.244.0.0/24"],"taints":[{}]}}`, `{"metadata":{"name":"a"},"spec":{"podCIDRs":[]}}`},
		{`{"metadata":null,"spec":null}`, `{}`}, {`[]`, ""}, {``, ""}, {`{"spec":[1e400]}`, "null"},
	} {
		f.Add(seed.object, seed.old)
	}
	names := []string{"Pod", "ReplicationController", "Service", "Endpoints", "Node"}
	f.Fuzz(func(t *testing.T, object, old string) {
		operation := admissionv1.Create
		if old != "" {
			operation = admissionv1.Update
		}
		for _, name := range names {
			request := requestFor(name, operation, object, old)
			response := newHandler(&fakeOracle{}, servicePolicy{services: newPolicy(t).services}, noToken).Handle(t.Context(), request)
			if err := response.Complete(request); err != nil {
				t.Fatal(err)
			}
			if !response.Allowed && (response.Result.Code < http.StatusBadRequest || response.Result.Message == "") {
				t.Errorf("%s refused without a reason: %+v", name, response.Result)
			}
		}
	})
}
