// Package boundtoken binds tokens of ServiceAccounts to Pods and Nodes of Keelson.
//
// The API server binds tokens to its built-in Pods and Nodes only, and puts nothing into a
// token that it does not know, but the audiences that were asked for. So a token names what
// it is bound to in one audience more, signed with the rest (ADR 0046). The agent asks for
// it, and the gateway, which sees tokens when they are used, judges by it.
//
// The package is pure. Whether a token is genuine is somebody else's to find out.
package boundtoken

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Kinds that a token can be bound to.
const (
	KindPod  = "Pod"
	KindNode = "Node"
)

// prefix begins the audiences that bind. Nobody else has this one as an audience.
const prefix = "https://keelson.dev/bound-to/"

// folders are the kinds' names in an audience.
var folders = map[string]string{KindPod: "pods", KindNode: "nodes"}

// Object is what a token is bound to. A Pod is in the namespace of the token's account.
type Object struct {
	// Kind is KindPod or KindNode.
	Kind, Name string
	UID        types.UID
}

// Audience names o in a token.
func Audience(o Object) string {
	return prefix + folders[o.Kind] + "/" + o.Name + "/" + string(o.UID)
}

// Of returns what the token with these audiences is bound to, and false for one that is
// bound to nothing.
func Of(audiences []string) (Object, bool) {
	for _, audience := range audiences {
		rest, ours := strings.CutPrefix(audience, prefix)
		if !ours {
			continue
		}
		parts := strings.Split(rest, "/")
		for kind, folder := range folders {
			if len(parts) == 3 && parts[0] == folder && parts[1] != "" && parts[2] != "" {
				return Object{Kind: kind, Name: parts[1], UID: types.UID(parts[2])}, true
			}
		}
	}
	return Object{}, false
}

// Without are the audiences that do not bind: those whom the token is for.
func Without(audiences []string) []string {
	return slices.DeleteFunc(slices.Clone(audiences), func(audience string) bool { return strings.HasPrefix(audience, prefix) })
}

// FromToken returns what a token, whose signature has been checked, is bound to. A text that
// is no JSON web token is bound to nothing.
func FromToken(token string) (Object, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Object{}, false
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return Object{}, false
	}
	var many struct {
		Audiences []string `json:"aud"`
	}
	// One audience may also stand without the list, but such a token is for nobody else, and
	// so never for the API server.
	if json.Unmarshal(claims, &many) != nil {
		return Object{}, false
	}
	return Of(many.Audiences)
}
