package rootca

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"
)

func TestLoadBundle(t *testing.T) {
	cert, key, err := certutil.GenerateSelfSignedCertKey("api", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := func(content []byte) string {
		name := filepath.Join(t.TempDir(), "ca.crt")
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	missing := filepath.Join(t.TempDir(), "none")
	authority := func(data []byte, file string) *rest.Config {
		return &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: data, CAFile: file}}
	}
	tests := map[string]struct {
		file    string
		cfg     *rest.Config
		wantErr []string
	}{
		"the file":                           {file: file(cert), cfg: authority([]byte("other"), "")},
		"the bytes of the credentials":       {cfg: authority(cert, missing)},
		"the file of the credentials":        {cfg: authority(nil, file(cert))},
		"nobody names one":                   {cfg: authority(nil, ""), wantErr: []string{"--root-ca-file", "-rootca"}},
		"a file that is not there":           {file: missing, cfg: authority(cert, ""), wantErr: []string{"--root-ca-file", missing}},
		"credentials whose file is missing":  {cfg: authority(nil, missing), wantErr: []string{missing}},
		"a file without certificates":        {file: file([]byte("hello")), cfg: authority(cert, ""), wantErr: []string{"--root-ca-file", "no usable certificates"}},
		"a certificate that is none":         {file: file([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")), cfg: authority(cert, ""), wantErr: []string{"no usable certificates"}},
		"a key beside it is never published": {file: file(append(append([]byte{}, cert...), key...)), cfg: authority(cert, ""), wantErr: []string{"--root-ca-file", "PRIVATE KEY", "only certificates"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := LoadBundle(tc.file, tc.cfg)
			if len(tc.wantErr) == 0 {
				if err != nil || got != string(cert) {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tc.wantErr {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not mention %q", err, want)
				}
			}
		})
	}
}
