package boundtoken

import (
	"encoding/base64"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAudiencesNameWhatATokenIsBoundTo(t *testing.T) {
	for name, want := range map[string]Object{
		"a Pod":  {Kind: KindPod, Name: "web-0.x", UID: "8a2b"},
		"a Node": {Kind: KindNode, Name: "n1", UID: "17"},
	} {
		t.Run(name, func(t *testing.T) {
			audiences := []string{"vault", Audience(want), "api"}
			if got, ok := Of(audiences); !ok || got != want {
				t.Errorf("Of = %+v, %v", got, ok)
			}
			if diff := cmp.Diff([]string{"vault", "api"}, Without(audiences)); diff != "" {
				t.Errorf("Without (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	encode := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	}
	pod := Object{Kind: KindPod, Name: "p", UID: "u"}
	for name, tc := range map[string]struct {
		token string
		want  Object
	}{
		"bound":                    {encode(`{"aud":["https://kubernetes.default.svc","` + Audience(pod) + `"],"sub":"x"}`), pod},
		"not bound":                {encode(`{"aud":["https://kubernetes.default.svc"]}`), Object{}},
		"one audience, no list":    {encode(`{"aud":"` + Audience(pod) + `"}`), Object{}},
		"no audience":              {encode(`{}`), Object{}},
		"no JSON":                  {encode(`{"aud"`), Object{}},
		"no base64":                {"e30.$.c2ln", Object{}},
		"no web token":             {"abc.def", Object{}},
		"a kind that nobody knows": {encode(`{"aud":["` + prefix + `jobs/p/u"]}`), Object{}},
		"no UID":                   {encode(`{"aud":["` + prefix + `pods/p/"]}`), Object{}},
		"more than a name and UID": {encode(`{"aud":["` + prefix + `pods/p/u/v"]}`), Object{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := FromToken(tc.token)
			if got != tc.want || ok != (tc.want != Object{}) {
				t.Errorf("FromToken = %+v, %v; want %+v", got, ok, tc.want)
			}
		})
	}
}
