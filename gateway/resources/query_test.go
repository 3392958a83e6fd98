package resources

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"
)

func TestPageQuery(t *testing.T) {
	for name, tt := range map[string]struct{ query, want string }{
		"pages of a size that fits into memory":   {"", "limit=500"},
		"what is selected":                        {"labelSelector=a%3Db&fieldSelector=spec.nodeName%3Dn", "fieldSelector=spec.nodeName%3Dn&labelSelector=a%3Db&limit=500"},
		"pages where the client wants no limit":   {"limit=0", "limit=500"},
		"a page that the client asks for":         {"limit=3&continue=c", "continue=c&limit=3"},
		"nothing that would make a watch of it":   {"watch=true&allowWatchBookmarks=true&sendInitialEvents=true", "limit=500"},
		"nothing that is about the deletion only": {"dryRun=All&gracePeriodSeconds=0&propagationPolicy=Orphan", "limit=500"},
	} {
		t.Run(name, func(t *testing.T) {
			query, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, pageQuery(query).Encode()); diff != "" {
				t.Errorf("query (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSelectName(t *testing.T) {
	const mismatch = "fieldSelector metadata.name doesn't match requested name"
	for name, tt := range map[string]struct{ selector, want, wantErr string }{
		"no selector":                    {want: "metadata.name=p"},
		"the name itself, and more":      {selector: "metadata.name=p,spec.nodeName=n", want: "metadata.name=p,spec.nodeName=n"},
		"another name":                   {selector: "metadata.name=q", wantErr: mismatch},
		"something that is not the name": {selector: "spec.nodeName=n", wantErr: mismatch},
		"no selector in truth":           {selector: "spec.nodeName", wantErr: "invalid selector: 'spec.nodeName'; can't understand 'spec.nodeName'"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := selectName(tt.selector, "p")
			message := ""
			if err != nil {
				message = err.Error()
			}
			if got != tt.want || message != tt.wantErr {
				t.Errorf("got %q, %q; want %q, %q", got, message, tt.want, tt.wantErr)
			}
		})
	}
}

func TestALegacyWatchIsReadOnly(t *testing.T) {
	answer, asked := play(t, nil, clock.RealClock{}, http.MethodDelete, "/api/v1/watch/namespaces/ns/pods/a", "", "")
	if answer.Code != http.StatusMethodNotAllowed || len(asked) > 0 {
		t.Errorf("code %d after the requests %v, want 405 and none", answer.Code, asked)
	}
}
