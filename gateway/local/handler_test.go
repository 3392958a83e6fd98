package local

import (
	"context"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/transport"

	"github.com/keelson-dev/keelson/gateway/upstream"
)

// What the gateway looks up and writes on the way, such as a binding, is done as whom the
// client acts, too: it must not get the rights of the person behind it.
func TestWhoActsAsSomebodyDoesSoUnderEveryIdentity(t *testing.T) {
	api := newAPIServer(t)
	caller, err := newCallerTransport(api.caller(), &failures{})
	if err != nil {
		t.Fatal(err)
	}
	as := context.WithValue(t.Context(), impersonationKey{}, &transport.ImpersonationConfig{UserName: "bob"})
	for _, ctx := range []context.Context{as, upstream.Authorized(as), upstream.AsGateway(as)} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, api.URL+"/x", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := caller.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
	}
	const line = "GET /x Bearer callers-own Impersonate-User=bob"
	if diff := cmp.Diff([]string{line, line, line}, api.log()); diff != "" {
		t.Errorf("the API server saw (-want +got):\n%s", diff)
	}
}
