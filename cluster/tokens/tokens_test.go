package tokens

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newClient(objects ...client.Object) client.Client {
	return fake.NewClientBuilder().WithObjects(objects...).
		WithIndex(&corev1.Secret{}, "type", func(o client.Object) []string { return []string{string(o.(*corev1.Secret).Type)} }).Build()
}

func TestGeneratedTokensCanBeParsedAndDiffer(t *testing.T) {
	first, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	second, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	if first == second || first.ID == second.ID {
		t.Errorf("two tokens are alike: %v", first)
	}
	parsed, err := Parse(first.String())
	if err != nil || parsed != first {
		t.Errorf("Parse(%q) = %v, %v", first, parsed, err)
	}
}

func TestParseRefusesOtherText(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":           "",
		"an ID alone":       "abcdef",
		"capitals":          "ABCDEF.0123456789abcdef",
		"a short secret":    "abcdef.0123456789abcde",
		"a line behind it":  "abcdef.0123456789abcdef\n",
		"something before":  " abcdef.0123456789abcdef",
		"two dots":          "abcdef..123456789abcdef",
		"a secret too long": "abcdef.0123456789abcdef0",
	} {
		if _, err := Parse(text); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: error %v; want one that does not repeat the text", name, err)
		}
	}
}

func TestSecretIsWhatTheAPIServerReads(t *testing.T) {
	s := Spec{Token: Token{"abcdef", "0123456789abcdef"}, Description: "for the attic", Usages: []string{Authentication, Signing}, TTL: time.Hour}
	want := map[string][]byte{
		"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "description": []byte("for the attic"),
		"expiration": []byte("2026-01-02T04:04:05Z"), "usage-bootstrap-authentication": []byte("true"), "usage-bootstrap-signing": []byte("true"),
		"auth-extra-groups": []byte("system:bootstrappers:keelson:nodes"),
	}
	secret := render(s, now)
	if diff := cmp.Diff(want, secret.Data); diff != "" {
		t.Error(diff)
	}
	if secret.Name != "bootstrap-token-abcdef" || secret.Namespace != "kube-system" || secret.Type != "bootstrap.kubernetes.io/token" {
		t.Errorf("Secret %s/%s of type %s", secret.Namespace, secret.Name, secret.Type)
	}
	s.TTL = 0
	if end, has := render(s, now).Data["expiration"]; has {
		t.Errorf("a token for ever ends at %s", end)
	}
}

func TestSpecsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spec Spec
		want string
	}{
		"a negative life":  {Spec{TTL: -1, Usages: []string{Signing}}, "--ttl"},
		"no usage":         {Spec{}, "--usages: must not be empty"},
		"an unknown usage": {Spec{Usages: []string{"cooking"}}, `--usages: "cooking"`},
	} {
		if err := c.spec.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
}

func TestTokensAreCreatedListedAndDeleted(t *testing.T) {
	ctx := t.Context()
	other := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-foreig"}, Type: corev1.SecretTypeOpaque}
	c := newClient(other)
	spec := Spec{Token: Token{"abcdef", "0123456789abcdef"}, Usages: []string{Authentication}, TTL: time.Hour}
	if err := Create(ctx, c, spec, now); err != nil {
		t.Fatal(err)
	}
	if err := Create(ctx, c, spec, now); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("created twice: %v", err)
	}
	for after, want := range map[time.Duration]string{0: "1h ", 2 * time.Hour: "<expired>"} {
		all, err := List(ctx, c)
		if err != nil || len(all) != 1 {
			t.Fatalf("List = %v, %v", all, err)
		}
		var out bytes.Buffer
		if err := Print(&out, all, now.Add(after)); err != nil {
			t.Fatal(err)
		}
		if text := out.String(); !strings.Contains(text, want) || strings.Contains(text, spec.Token.Secret) {
			t.Errorf("after %s the list is\n%s\nwant %s in it, and no secret", after, text, want)
		}
	}
	if err := Delete(ctx, c, "foreig"); err == nil || !strings.Contains(err.Error(), "no bootstrap token") {
		t.Errorf("deleted a Secret of another type: %v", err)
	}
	if err := Delete(ctx, c, "abcdef"); err != nil {
		t.Error(err)
	}
	if err := Delete(ctx, c, "abcdef"); err == nil || !strings.Contains(err.Error(), "there is no token") {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestParseIDTakesTokensAndIDs(t *testing.T) {
	for _, text := range []string{"abcdef", "abcdef.0123456789abcdef"} {
		if id, err := ParseID(text); err != nil || id != "abcdef" {
			t.Errorf("ParseID(%q) = %q, %v", text, id, err)
		}
	}
	if _, err := ParseID("abc"); err == nil {
		t.Error("half an ID was taken")
	}
}
