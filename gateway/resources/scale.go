package resources

import (
	"fmt"
	"net/http"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/gateway/codec"
)

// A custom resource's scale is upstream's autoscaling/v1 Scale already: only the
// content types and strategic merge patches need the gateway.

func (c *call) getScale() error {
	format, err := c.codec.Negotiate(c.r, false)
	if err != nil {
		return err
	}
	scale, code, err := c.ask(c.ctx, asked{method: http.MethodGet, target: c.target})
	if err != nil {
		return err
	}
	return c.writeScale(format, code, scale)
}

func (c *call) writeScale(format codec.Format, code int, tree map[string]any) error {
	scale := &autoscalingv1.Scale{}
	if err := decodeInto(tree, scale); err != nil {
		return err
	}
	return c.logWrite(c.codec.WriteObject(c.w, c.r, format, code, scale))
}

func (c *call) updateScale() error {
	format, err := c.codec.Negotiate(c.r, false)
	if err != nil {
		return err
	}
	body, err := codec.ReadBody(c.r)
	if err != nil {
		return err
	}
	kind := autoscalingv1.SchemeGroupVersion.WithKind("Scale")
	scale, duplicates, err := c.codec.DecodeObject(c.r.Header.Get("Content-Type"), body, kind)
	if err != nil {
		return err
	}
	if err := c.reportDuplicates(body, kind, duplicates); err != nil {
		return err
	}
	if scale["apiVersion"] != kind.GroupVersion().String() || scale["kind"] != kind.Kind {
		return apierrors.NewBadRequest(fmt.Sprintf("wrong object passed to Scale update: %v, Kind=%v", scale["apiVersion"], scale["kind"]))
	}
	written, code, err := c.put(c.target, scale)
	if err != nil {
		return err
	}
	return c.writeScale(format, code, written)
}

func (c *call) patchScale() error {
	p, err := c.readPatch()
	if err != nil {
		return err
	}
	format, err := c.codec.Negotiate(c.r, false)
	if err != nil {
		return err
	}
	if p.kind != types.StrategicMergePatchType {
		a := asked{method: http.MethodPatch, target: c.target, query: applyQuery(c.r), contentType: string(p.kind), body: p.body}
		scale, code, err := c.ask(c.ctx, a)
		if err != nil {
			return err
		}
		return c.writeScale(format, code, scale)
	}
	var written map[string]any
	var code int
	err = retry(c.ctx, func() error {
		live, err := c.fetch(c.ctx, c.target)
		if err != nil {
			return err
		}
		version := resourceVersionOf(live)
		next, err := applyPatch(p, live, &autoscalingv1.Scale{})
		if err != nil {
			return err
		}
		written, code, err = c.put(c.target, next)
		if resourceVersionOf(next) != version {
			return final(err)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.writeScale(format, code, written)
}
