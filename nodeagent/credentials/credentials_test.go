package credentials

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestLookup(t *testing.T) {
	// Each entry's user says which one it is.
	tests := map[string]struct {
		entries []string
		image   string
		want    []string
	}{
		"the registry":                         {[]string{"reg.example"}, "reg.example/team/app", []string{"reg.example"}},
		"another registry":                     {[]string{"reg.example"}, "other.example/team/app", nil},
		"with a scheme and a version":          {[]string{"https://reg.example/v2/"}, "reg.example/app", []string{"https://reg.example/v2/"}},
		"the beginning of the repository":      {[]string{"reg.example/team"}, "reg.example/team/app", []string{"reg.example/team"}},
		"another beginning":                    {[]string{"reg.example/team"}, "reg.example/others/app", nil},
		"the more specific first":              {[]string{"reg.example", "reg.example/team/app", "reg.example/team"}, "reg.example/team/app", []string{"reg.example/team/app", "reg.example/team", "reg.example"}},
		"any host of a domain":                 {[]string{"*.example"}, "reg.example/app", []string{"*.example"}},
		"a * stands for one part":              {[]string{"*.example"}, "a.reg.example/app", nil},
		"the port counts":                      {[]string{"reg.example"}, "reg.example:5000/app", nil},
		"with the port":                        {[]string{"127.0.0.1:5000"}, "127.0.0.1:5000/app", []string{"127.0.0.1:5000"}},
		"Docker Hub as docker login writes it": {[]string{"https://index.docker.io/v1/"}, "docker.io/library/busybox", []string{"https://index.docker.io/v1/"}},
		"Docker Hub by its name":               {[]string{"docker.io", "index.docker.io"}, "docker.io/library/busybox", []string{"docker.io"}},
		"what is for Docker Hub stays with it": {[]string{"https://index.docker.io/v1/"}, "reg.example/app", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var auths []string
			for _, e := range tt.entries {
				auths = append(auths, fmt.Sprintf("%q:{\"username\":%[1]q,\"password\":\"p\"}", e))
			}
			var k Keyring
			if err := k.AddConfig([]byte(`{"auths":{` + strings.Join(auths, ",") + `}}`)); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range k.Lookup(tt.image) {
				got = append(got, c.Username)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("credentials (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAddSecret(t *testing.T) {
	encode := base64.StdEncoding.EncodeToString
	tests := map[string]struct {
		kind          corev1.SecretType
		key, content  string
		want, wantErr string
	}{
		"config.json":             {kind: corev1.SecretTypeDockerConfigJson, key: ".dockerconfigjson", content: `{"auths":{"reg.example":{"username":"u","password":"p"}}}`, want: "u:p"},
		".dockercfg with auth":    {kind: corev1.SecretTypeDockercfg, key: ".dockercfg", content: `{"reg.example":{"auth":"` + encode([]byte("u:p:q")) + `","email":"x"}}`, want: "u:p:q"},
		"auth without padding":    {kind: corev1.SecretTypeDockercfg, key: ".dockercfg", content: `{"reg.example":{"auth":"` + strings.TrimRight(encode([]byte("us:p")), "=") + `"}}`, want: "us:p"},
		"auth that is no base64":  {kind: corev1.SecretTypeDockercfg, key: ".dockercfg", content: `{"reg.example":{"auth":"?"}}`, wantErr: `entry "reg.example": decoding auth: illegal base64 data at input byte 0`},
		"auth without a password": {kind: corev1.SecretTypeDockercfg, key: ".dockercfg", content: `{"reg.example":{"auth":"` + encode([]byte("u")) + `"}}`, wantErr: `entry "reg.example": unable to parse auth field, must be formatted as base64(username:password)`},
		"no JSON":                 {kind: corev1.SecretTypeDockerConfigJson, key: ".dockerconfigjson", content: "{", wantErr: "decoding the registry configuration: unexpected end of JSON input"},
		"another type":            {kind: corev1.SecretTypeOpaque, wantErr: `its type is "Opaque", neither kubernetes.io/dockerconfigjson nor kubernetes.io/dockercfg`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var k Keyring
			err := k.AddSecret(&corev1.Secret{Type: tt.kind, Data: map[string][]byte{tt.key: []byte(tt.content)}})
			got, text := "", ""
			if err != nil {
				text = err.Error()
			}
			for _, c := range k.Lookup("reg.example/app") {
				got += c.Username + ":" + c.Password
			}
			if got != tt.want || text != tt.wantErr {
				t.Errorf("got %q, %q; want %q, %q", got, text, tt.want, tt.wantErr)
			}
		})
	}
}
