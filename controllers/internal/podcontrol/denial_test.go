package podcontrol

import (
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestWithoutDenial(t *testing.T) {
	forbidden := func(prefix string) error {
		err := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "web-1", errors.New("exceeded quota: q"))
		err.ErrStatus.Message = prefix + err.ErrStatus.Message
		return err
	}
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"a quota speaks as upstream's does":     {forbidden(`admission webhook "quota.keelson.dev" denied the request: `), `pods "web-1" is forbidden: exceeded quota: q`},
		"so does a webhook of users":            {forbidden(`admission webhook "system-hooks.keelson.dev" denied the request: `), `pods "web-1" is forbidden: exceeded quota: q`},
		"another webhook is named":              {forbidden(`admission webhook "policy.example.com" denied the request: `), `admission webhook "policy.example.com" denied the request: pods "web-1" is forbidden: exceeded quota: q`},
		"an error of the network is left alone": {errors.New("connection refused"), "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			got := withoutDenial(tc.err)
			if got.Error() != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if apierrors.IsForbidden(got) != apierrors.IsForbidden(tc.err) {
				t.Errorf("the reason of %v is another than before", got)
			}
		})
	}
	if withoutDenial(nil) != nil {
		t.Error("nothing became an error")
	}
}
