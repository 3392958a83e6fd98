package agent

import (
	"strings"
	"testing"
)

func TestOptionsOfRotation(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"a folder":            {func(o *Options) { o.CertDir = "/pki" }, ""},
		"no folder":           {func(*Options) {}, "--cert-dir"},
		"a relative folder":   {func(o *Options) { o.CertDir = "pki" }, "--cert-dir"},
		"a certificate given": {func(o *Options) { o.CertDir, o.TLSCertFile, o.TLSPrivateKeyFile = "/pki", "/a", "/b" }, "--rotate-certificates and --tls-cert-file"},
	} {
		o := NewOptions()
		o.Kubeconfig, o.RotateCertificates = "/kubeconfig", true
		c.change(o)
		err := o.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}
