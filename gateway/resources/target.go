package resources

import (
	"net/url"
	"strings"

	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/gateway/table"
)

// target is what a request is about.
type target struct {
	row table.Row
	// namespace is empty for cluster-scoped kinds and across namespaces.
	namespace string
	// name is empty for a collection.
	name        string
	subresource string
}

func targetOf(row table.Row, info *request.RequestInfo) target {
	t := target{row: row, subresource: info.Subresource}
	if row.Namespaced {
		t.namespace = info.Namespace
	}
	switch info.Verb {
	case "list", "watch", "deletecollection":
		// RequestInfo names here what the field selector names.
	default:
		t.name = info.Name
	}
	return t
}

// path is where the API server keeps the target.
func (t target) path() string {
	var b strings.Builder
	b.WriteString("/apis/" + t.row.Stored.Group + "/" + t.row.Stored.Version)
	if t.namespace != "" {
		b.WriteString("/namespaces/" + url.PathEscape(t.namespace))
	}
	b.WriteString("/" + t.row.Stored.Resource)
	for _, part := range []string{t.name, t.subresource} {
		if part != "" {
			b.WriteString("/" + url.PathEscape(part))
		}
	}
	return b.String()
}

// object is the target without its subresource.
func (t target) object() target {
	t.subresource = ""
	return t
}

// sub is a subresource of the target.
func (t target) sub(name string) target {
	t.subresource = name
	return t
}

// named is an object of the same collection.
func (t target) named(namespace, name string) target {
	t.namespace, t.name, t.subresource = namespace, name, ""
	return t
}
