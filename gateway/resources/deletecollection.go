package resources

import (
	"context"
	"net/http"
	"net/url"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// collectionPage is how many objects of a collection are in memory at once.
	collectionPage = "500"
	// collectionWorkers is how many Pods of a collection are deleted at a time.
	collectionWorkers = 8
)

// deleteCollection deletes what the selectors select. Pods are deleted one by one, for
// their grace; custom resources have no other way.
func (c *call) deleteCollection() error {
	format, err := c.codec.Negotiate(c.r, false)
	if err != nil {
		return err
	}
	options, err := c.readDeleteOptions()
	if err != nil {
		return err
	}
	query, err := c.collectionQuery()
	if err != nil {
		return err
	}
	if c.row.Kind == "Pod" {
		deleted, err := c.deletePods(options)
		if err != nil {
			return err
		}
		return c.logWrite(c.codec.WriteTree(c.w, c.r, format, http.StatusOK, deleted))
	}
	a, err := c.deletion(c.target, options)
	if err != nil {
		return err
	}
	a.query = query
	for _, name := range []string{"dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"} {
		a.query.Del(name) // they are in the body now
	}
	return c.forward(a, format)
}

// deletePods deletes page by page and returns the list of what it deleted, in the
// client's form.
func (c *call) deletePods(options *metav1.DeleteOptions) (map[string]any, error) {
	query, err := c.collectionQuery()
	if err != nil {
		return nil, err
	}
	given := query.Get("limit")
	query = pageQuery(query)
	all := given != query.Get("limit")
	items := []any{}
	for {
		page, _, err := c.ask(c.ctx, asked{method: http.MethodGet, target: c.target, query: query})
		if err != nil {
			return nil, err
		}
		listed, _ := page["items"].([]any)
		deleted, err := c.deleteAll(listed, options)
		if err != nil {
			return nil, err
		}
		items = append(items, deleted...)
		next := metaString(page, "continue")
		if next == "" || !all {
			return map[string]any{
				"apiVersion": c.row.Upstream.GroupVersion().String(), "kind": c.row.Kind + "List",
				"metadata": map[string]any{"resourceVersion": resourceVersionOf(page)}, "items": items,
			}, nil
		}
		query.Set("continue", next)
	}
}

// pageQuery is the query for a page of the objects that a deletecollection selects. What
// else the client says is about the deletion, or would make a watch of it.
func pageQuery(query url.Values) url.Values {
	page := url.Values{"limit": {collectionPage}}
	for _, name := range []string{"labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch", "timeoutSeconds"} {
		if value := query.Get(name); value != "" {
			page.Set(name, value)
		}
	}
	if page.Get("limit") == "0" { // upstream's word for no limit
		page.Set("limit", collectionPage)
	}
	return page
}

// deleteAll deletes the listed Pods and returns them in the client's form. One that is
// gone already is none of the caller's concern.
func (c *call) deleteAll(listed []any, options *metav1.DeleteOptions) ([]any, error) {
	group, ctx := errgroup.WithContext(c.ctx)
	group.SetLimit(collectionWorkers)
	var mu sync.Mutex
	var all []any
	for _, item := range listed {
		object, ok := item.(map[string]any)
		if !ok {
			continue
		}
		group.Go(func() error {
			deleted, err := c.deleteListed(ctx, object, options)
			if err != nil || deleted == nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, deleted)
			return nil
		})
	}
	return all, group.Wait()
}

func (c *call) deleteListed(ctx context.Context, object map[string]any, options *metav1.DeleteOptions) (map[string]any, error) {
	options = options.DeepCopy()
	if options.Preconditions == nil {
		options.Preconditions = &metav1.Preconditions{}
	}
	if options.Preconditions.UID == nil {
		// The Pod that the selectors selected, not its successor of the same name.
		options.Preconditions.UID = new(types.UID(metaString(object, "uid")))
	}
	deleted, _, err := c.deletePod(ctx, c.named(metaString(object, "namespace"), metaString(object, "name")), options)
	if apierrors.IsConflict(err) {
		err = c.replaced(ctx, object, err)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return deleted, c.translator.ToUpstream(deleted)
}

// replaced turns the conflict of a deletion into the absence of the object where the
// name belongs to another one by now.
func (c *call) replaced(ctx context.Context, object map[string]any, conflict error) error {
	live, err := c.fetch(ctx, c.named(metaString(object, "namespace"), metaString(object, "name")))
	if err == nil && metaString(live, "uid") != metaString(object, "uid") {
		return apierrors.NewNotFound(groupResource(c.row), metaString(object, "name"))
	}
	if err != nil {
		return err
	}
	return conflict
}
