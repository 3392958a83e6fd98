package resources

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/table"
)

// optimisticLock is upstream's message about a version that is not the stored one.
const optimisticLock = "the object has been modified; please apply your changes to the latest version and try again"

// create stores a new object.
func (c *call) create() error {
	format, err := c.codec.Negotiate(c.r, false)
	if err != nil {
		return err
	}
	obj, err := c.readStored()
	if err != nil {
		return err
	}
	raw, err := encodeTree(obj)
	if err != nil {
		return err
	}
	a := asked{method: http.MethodPost, target: c.target, query: writeQuery(c.r), body: raw}
	if c.allocates() {
		created, code, err := c.ask(c.ctx, a)
		if err != nil {
			return err
		}
		return c.writeStored(code, c.allocated(created))
	}
	return c.forward(a, format)
}

// forward asks the API server and streams its answer to the client.
func (c *call) forward(a asked, format codec.Format) error {
	answer, err := c.send(c.ctx, a)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return c.logWrite(c.codec.WriteAnswer(c.w, c.r, format, c.row, answer))
}

// update replaces an object, or a part of it, by what the client sent.
func (c *call) update() error {
	if _, err := c.codec.Negotiate(c.r, false); err != nil {
		return err
	}
	obj, err := c.readStored()
	if err != nil {
		return err
	}
	if err := c.checkNames(obj); err != nil {
		return err
	}
	written, code, err := c.modify(func(map[string]any) (map[string]any, error) {
		return runtime.DeepCopyJSON(obj), nil
	})
	if apierrors.IsNotFound(err) && c.subresource == "" && c.row.CreatesOnUpdate {
		written, code, err = c.createByUpdate(obj)
	}
	if err != nil {
		return err
	}
	return c.writeStored(code, c.allocated(written))
}

// checkNames compares the object's name and namespace with the path's, and fills in
// what the object leaves out.
func (c *call) checkNames(obj map[string]any) error {
	metadata := metadataOf(obj)
	switch name := metadata["name"]; name {
	case nil, "":
		metadata["name"] = c.name
	case c.name:
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%v) does not match the name on the URL (%s)", name, c.name))
	}
	switch metadata["namespace"] {
	case nil, "":
		if c.namespace != "" {
			metadata["namespace"] = c.namespace
		}
	case c.namespace:
	default:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

// createByUpdate is a PUT of an object that is not there, of a kind that upstream
// creates then.
func (c *call) createByUpdate(obj map[string]any) (map[string]any, int, error) {
	metadata := metadataOf(obj)
	delete(metadata, "resourceVersion")
	delete(metadata, "uid")
	raw, err := encodeTree(obj)
	if err != nil {
		return nil, 0, err
	}
	collection := c.named(c.namespace, "")
	return c.ask(c.ctx, asked{method: http.MethodPost, target: collection, query: writeQuery(c.r), body: raw})
}

// modify writes what change makes of the stored object, in the stored form. A change
// that carries no resource version, or the one it was given, is made again when
// somebody else wrote in between; one that carries another is the client's own
// condition, and fails.
func (c *call) modify(change func(live map[string]any) (map[string]any, error)) (written map[string]any, code int, err error) {
	err = retry(c.ctx, func() error {
		live, err := c.fetch(c.ctx, c.object())
		if err != nil {
			return err
		}
		next, err := change(runtime.DeepCopyJSON(live))
		if err != nil {
			return err
		}
		if err := completeMetadata(c.row, live, next); err != nil {
			return final(err)
		}
		written, code, err = c.replace(live, next)
		return err
	})
	return written, code, err
}

// completeMetadata fills in what an update may leave out, and refuses one that the client
// made conditional on another object or version than the stored one: in upstream's order
// before anything is validated, or a client that must read again would be told that it
// may not change what others have changed since.
func completeMetadata(row table.Row, live, next map[string]any) error {
	metadata := metadataOf(next)
	conflict := func(err error) error {
		return apierrors.NewConflict(groupResource(row), metaString(live, "name"), err)
	}
	if uid, _ := metadata["uid"].(string); uid != "" && uid != metaString(live, "uid") {
		return conflict(fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, metaString(live, "uid")))
	}
	switch version, _ := metadata["resourceVersion"].(string); version {
	case resourceVersionOf(live):
	case "":
		metadata["resourceVersion"] = resourceVersionOf(live)
	default:
		return conflict(errors.New(optimisticLock))
	}
	return nil
}

// replace writes next over live: the object or the part that the call is about.
func (c *call) replace(live, next map[string]any) (map[string]any, int, error) {
	if err := c.translator.Restore(c.row, live, next); err != nil {
		return nil, 0, err
	}
	switch c.subresource {
	case "status":
		return c.replaceStatus(live, next)
	case "ephemeralcontainers":
		next = onlyEphemeralContainers(live, next)
	case "resize":
		var err error
		if next, err = onlyResources(c.row, live, next); err != nil {
			return nil, 0, err
		}
	default:
		if err := checkPodChange(c.row, live, next); err != nil {
			return nil, 0, err
		}
	}
	return c.put(c.object(), next)
}

func (c *call) put(t target, obj map[string]any) (map[string]any, int, error) {
	raw, err := encodeTree(obj)
	if err != nil {
		return nil, 0, err
	}
	return c.ask(c.ctx, asked{method: http.MethodPut, target: t, query: writeQuery(c.r), body: raw})
}

// readStored reads the client's object in the stored form.
func (c *call) readStored() (map[string]any, error) {
	body, err := codec.ReadBody(c.r)
	if err != nil {
		return nil, err
	}
	kind := c.row.UpstreamKind()
	obj, duplicates, err := c.codec.DecodeObject(c.r.Header.Get("Content-Type"), body, kind)
	if err != nil {
		return nil, err
	}
	if err := c.reportDuplicates(body, kind, duplicates); err != nil {
		return nil, err
	}
	if err := c.translator.ToStored(c.row, obj); err != nil {
		return nil, err
	}
	return obj, nil
}

// reportDuplicates does about members of a body that occur twice what fieldValidation
// says; about unknown ones the API server does. A refusal names both, because the API
// server does not get to see what is refused here.
func (c *call) reportDuplicates(body []byte, kind schema.GroupVersionKind, duplicates []error) error {
	if len(duplicates) == 0 {
		return nil
	}
	switch c.r.URL.Query().Get("fieldValidation") {
	case metav1.FieldValidationIgnore:
	case metav1.FieldValidationStrict:
		problem := c.codec.StrictError(c.r.Header.Get("Content-Type"), body, kind)
		if problem == nil {
			problem = runtime.NewStrictDecodingError(duplicates)
		}
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", kind.Kind, kind.Version, kind.Kind, problem))
	default:
		for _, duplicate := range duplicates {
			if header, err := utilnet.NewWarningHeader(299, "-", duplicate.Error()); err == nil {
				c.warn(header)
			}
		}
	}
	return nil
}

// writeQuery is what of the client's query a write of ours passes on. Whatever is wrong
// with a value, the API server says.
func writeQuery(r *http.Request) url.Values {
	query := url.Values{}
	for name, values := range r.URL.Query() {
		switch name {
		case "dryRun", "fieldManager", "fieldValidation":
			query[name] = values
		}
	}
	return query
}

// isDryRun says that nothing may be stored.
func (c *call) isDryRun() bool { return len(c.r.URL.Query()["dryRun"]) > 0 }
