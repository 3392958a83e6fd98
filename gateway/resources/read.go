package resources

import (
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/klog/v2"
)

// get, list and watch pass the query on, but for the field selector, and stream the
// answer back in the client's format.
func (c *call) get() error {
	t := c.target
	if t.subresource == "ephemeralcontainers" || t.subresource == "resize" {
		t = t.object() // the whole Pod, as upstream
	}
	return c.read(t, c.r.URL.Query())
}

func (c *call) list() error {
	query, err := c.collectionQuery()
	if err != nil {
		return err
	}
	return c.read(c.target, query)
}

func (c *call) read(t target, query url.Values) error {
	format, err := c.codec.Negotiate(c.r, false)
	if err != nil {
		return err
	}
	answer, err := c.send(c.ctx, asked{method: http.MethodGet, target: t, query: query, accept: format.UpstreamAccept()})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return c.logWrite(c.codec.WriteAnswer(c.w, c.r, format, c.row, answer))
}

func (c *call) watch() error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return c.unserved() // the legacy path /watch/ makes a watch of every method
	}
	query, err := c.collectionQuery()
	if err != nil {
		return err
	}
	query.Set("watch", "true") // the legacy path /watch/ says so without a parameter
	format, err := c.codec.Negotiate(c.r, true)
	if err != nil {
		return err
	}
	answer, err := c.send(c.ctx, asked{method: http.MethodGet, target: c.target, query: query, accept: format.UpstreamAccept()})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		format.Watch = false
		return c.logWrite(c.codec.WriteAnswer(c.w, c.r, format, c.row, answer))
	}
	return c.logWrite(c.codec.WriteWatch(c.w, c.r, format, c.row, answer))
}

// collectionQuery is the query of a list, watch or deletecollection with the field
// selector in terms of the custom resource. The legacy watch of one object names it in
// the path.
func (c *call) collectionQuery() (url.Values, error) {
	query := c.r.URL.Query()
	selector := query.Get("fieldSelector")
	if len(c.info.Parts) == 2 && c.info.Verb == "watch" {
		var err error
		if selector, err = selectName(selector, c.info.Parts[1]); err != nil {
			return nil, err
		}
	}
	if selector == "" {
		return query, nil
	}
	stored, err := c.translator.FieldSelectorToStored(c.row, selector)
	if err != nil {
		return nil, err
	}
	query.Set("fieldSelector", stored)
	return query, nil
}

// selectName is the field selector of a watch of the named object, which may have one that
// selects the same name.
func selectName(selector, name string) (string, error) {
	if selector != "" {
		parsed, err := fields.ParseSelector(selector)
		if err != nil {
			return "", apierrors.NewBadRequest(err.Error())
		}
		if selected, ok := parsed.RequiresExactMatch("metadata.name"); !parsed.Empty() && (!ok || selected != name) {
			return "", apierrors.NewBadRequest("fieldSelector metadata.name doesn't match requested name")
		}
		if !parsed.Empty() {
			return selector, nil
		}
	}
	return fields.OneTermEqualSelector("metadata.name", name).String(), nil
}

// logWrite ends a call whose answer has begun: what failed since is of interest to the
// operator only, and not even to him when the client has left.
func (c *call) logWrite(err error) error {
	if err != nil && c.r.Context().Err() == nil {
		klog.FromContext(c.ctx).V(2).Info("Could not finish an answer", "err", err, "resource", c.row.Upstream.Resource, "object", klog.KRef(c.namespace, c.name))
	}
	return nil
}
