// Package tokens makes, lists and deletes the bootstrap tokens by which machines join a
// cluster. They are Secrets of the type that the API server's own authenticator reads.
//
// It never shows the secret half of a token that exists already, and deletes no Secret of
// another type. It keeps no state: the API server forgets a token when it ends, and the
// manager deletes its Secret.
package tokens

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// Group is what machines that join are members of, and what their rights are bound to.
	Group = "system:bootstrappers:keelson:nodes"
	// Authentication and Signing are the usages of a token. Only the first lets a machine
	// join.
	Authentication = "authentication"
	Signing        = "signing"

	prefix         = "bootstrap-token-"
	usagePrefix    = "usage-bootstrap-"
	keyID          = "token-id"
	keySecret      = "token-secret"
	keyExpiration  = "expiration"
	keyDescription = "description"
	keyGroups      = "auth-extra-groups"

	idLength, secretLength = 6, 16
	alphabet               = "0123456789abcdefghijklmnopqrstuvwxyz"
)

var (
	idForm    = regexp.MustCompile(`^[a-z0-9]{6}$`)
	tokenForm = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
)

// Token is both halves: the first may be seen, the second is a password.
type Token struct{ ID, Secret string }

// String is how a person passes it on.
func (t Token) String() string { return t.ID + "." + t.Secret }

// Generate makes a token that nobody can guess.
func Generate() (Token, error) {
	id, err := random(idLength)
	if err != nil {
		return Token{}, err
	}
	secret, err := random(secretLength)
	return Token{ID: id, Secret: secret}, err
}

func random(length int) (string, error) {
	text := make([]byte, length)
	for i := range text {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", fmt.Errorf("make a token: %w", err)
		}
		text[i] = alphabet[n.Int64()]
	}
	return string(text), nil
}

// Parse reads what String wrote. The text is in no error: it may be half a password.
func Parse(text string) (Token, error) {
	halves := tokenForm.FindStringSubmatch(text)
	if halves == nil {
		return Token{}, fmt.Errorf("the bootstrap token does not have the form %q: six characters, a dot, sixteen characters", tokenForm)
	}
	return Token{ID: halves[1], Secret: halves[2]}, nil
}

// ParseID reads an ID, or takes it from a whole token.
func ParseID(text string) (string, error) {
	if t, err := Parse(text); err == nil {
		return t.ID, nil
	}
	if !idForm.MatchString(text) {
		return "", fmt.Errorf("this is neither a token nor the ID of one, which has the form %q", idForm)
	}
	return text, nil
}

// Spec is what a new token is like.
type Spec struct {
	Token       Token
	Description string
	// Usages are Authentication, Signing or both.
	Usages []string
	// TTL is how long it is good; 0 means for ever.
	TTL time.Duration
}

// Validate returns every problem at once, naming the flags.
func (s Spec) Validate() error {
	var errs []error
	if s.TTL < 0 {
		errs = append(errs, fmt.Errorf("--ttl: %s: must not be negative; 0 means that the token never expires", s.TTL))
	}
	if len(s.Usages) == 0 {
		errs = append(errs, errors.New("--usages: must not be empty"))
	}
	for _, usage := range s.Usages {
		if usage != Authentication && usage != Signing {
			errs = append(errs, fmt.Errorf("--usages: %q is neither %q nor %q", usage, Authentication, Signing))
		}
	}
	return errors.Join(errs...)
}

// SecretName is the name of the Secret of a token.
func SecretName(id string) string { return prefix + id }

// render is the Secret of a new token.
func render(s Spec, now time.Time) *corev1.Secret {
	data := map[string][]byte{keyID: []byte(s.Token.ID), keySecret: []byte(s.Token.Secret)}
	if slices.Contains(s.Usages, Authentication) {
		data[keyGroups] = []byte(Group) // groups of others are refused
	}
	if s.Description != "" {
		data[keyDescription] = []byte(s.Description)
	}
	if s.TTL > 0 {
		data[keyExpiration] = []byte(now.Add(s.TTL).UTC().Format(time.RFC3339))
	}
	for _, usage := range s.Usages {
		data[usagePrefix+usage] = []byte("true")
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: SecretName(s.Token.ID)},
		Type:       corev1.SecretTypeBootstrapToken, Data: data,
	}
}

// Info is what may be shown of a token.
type Info struct {
	ID, Description string
	Usages, Groups  []string
	// Expires is zero for a token that never does, and Invalid says that its end cannot be
	// read, which the API server takes for the past.
	Expires time.Time
	Invalid bool
}

// describe reads a Secret; false when it is no token.
func describe(secret *corev1.Secret) (Info, bool) {
	id, named := strings.CutPrefix(secret.Name, prefix)
	if secret.Type != corev1.SecretTypeBootstrapToken || !named {
		return Info{}, false
	}
	info := Info{ID: id, Description: string(secret.Data[keyDescription])}
	for key, value := range secret.Data {
		if usage, ok := strings.CutPrefix(key, usagePrefix); ok && string(value) == "true" {
			info.Usages = append(info.Usages, usage)
		}
	}
	slices.Sort(info.Usages)
	if groups := string(secret.Data[keyGroups]); groups != "" {
		info.Groups = strings.Split(groups, ",")
	}
	if text := string(secret.Data[keyExpiration]); text != "" {
		end, err := time.Parse(time.RFC3339, text)
		info.Expires, info.Invalid = end, err != nil
	}
	return info, true
}
