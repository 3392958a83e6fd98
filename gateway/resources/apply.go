package resources

import (
	"net/http"
	"net/url"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/keelson-dev/keelson/gateway/codec"
)

// apply is server-side apply, which the API server does on the stored form.
func (c *call) apply(p patchRequest, format codec.Format) error {
	stored, err := c.translator.PatchToStored(c.row, p.kind, p.body)
	if err != nil {
		return err
	}
	a := asked{method: http.MethodPatch, target: c.target, query: applyQuery(c.r), contentType: string(p.kind), body: stored}
	switch {
	case c.subresource == "status":
		return c.applyStatus(a)
	case c.row.Kind != "Pod":
		return c.sendPatch(a, format)
	}
	var wanted map[string]any
	if err := yaml.Unmarshal(stored, &wanted); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	switch c.subresource {
	case "ephemeralcontainers":
		a.target, a.body, err = c.applyOfEphemeral(wanted)
	case "resize":
		a.target, a.body, err = c.applyOfResources(wanted)
	default:
		err = c.checkApply(wanted)
	}
	if err != nil {
		return err
	}
	return c.sendPatch(a, format)
}

// applyStatus computes the columns anew after the API server has applied the status.
func (c *call) applyStatus(a asked) error {
	applied, code, err := c.ask(c.ctx, a)
	if err != nil {
		return err
	}
	next := runtime.DeepCopyJSON(applied)
	if err := summarize(c.row.Kind, next); err != nil {
		return err
	}
	if !c.isDryRun() && !reflect.DeepEqual(next["status"], applied["status"]) {
		written, _, err := c.put(c.target, next)
		// Whoever wrote in between has computed the columns of what was applied here.
		if err != nil && !apierrors.IsConflict(err) {
			return err
		}
		if err == nil {
			applied = written
		}
	}
	return c.writeStored(code, applied)
}

// checkApply refuses to change by an apply what checkPodChange refuses in an update: an
// apply leaves alone what it does not mention.
func (c *call) checkApply(wanted map[string]any) error {
	if specField(wanted, "nodeName") == nil && specField(wanted, "ephemeralContainers") == nil && !namesResources(wanted) {
		return nil
	}
	live, err := c.fetch(c.ctx, c.object())
	if apierrors.IsNotFound(err) {
		return nil // a creation may name a node
	}
	if err != nil {
		return err
	}
	for _, name := range []string{"nodeName", "ephemeralContainers"} {
		if specField(wanted, name) == nil {
			spec, _ := wanted["spec"].(map[string]any)
			liveSpec, _ := live["spec"].(map[string]any)
			spec[name] = liveSpec[name]
		}
	}
	keepResources(live, wanted)
	return checkPodChange(c.row, live, wanted)
}

// applyOfEphemeral is the apply of nothing but the ephemeral containers to the Pod.
func (c *call) applyOfEphemeral(wanted map[string]any) (target, []byte, error) {
	if _, err := c.fetch(c.ctx, c.object()); err != nil {
		return target{}, nil, err // a subresource creates nothing
	}
	only := map[string]any{"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": map[string]any{"name": c.name}}
	for _, field := range []string{"resourceVersion", "uid"} {
		if value := metaString(wanted, field); value != "" {
			metadataOf(only)[field] = value
		}
	}
	if containers := specField(wanted, "ephemeralContainers"); containers != nil {
		only["spec"] = map[string]any{"ephemeralContainers": containers}
	}
	raw, err := encodeTree(only)
	return c.object(), raw, err
}

// applyQuery is writeQuery with what only an apply may say.
func applyQuery(r *http.Request) url.Values {
	query := writeQuery(r)
	if force, ok := r.URL.Query()["force"]; ok {
		query["force"] = force
	}
	return query
}
