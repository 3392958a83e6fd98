package resources

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversionscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/keelson-dev/keelson/gateway/codec"
)

// delete removes an object, or begins to.
func (c *call) delete() error {
	format, err := c.codec.Negotiate(c.r, false)
	if err != nil {
		return err
	}
	options, err := c.readDeleteOptions()
	if err != nil {
		return err
	}
	code := http.StatusOK
	if orphan := options.OrphanDependents; orphan != nil && !*orphan { //nolint:staticcheck // SA1019: old clients still send it
		code = http.StatusAccepted
	}
	if c.row.Kind == "Pod" {
		deleted, gone, err := c.deletePod(c.ctx, c.target, options)
		if err != nil {
			return err
		}
		if gone {
			code = http.StatusOK
		}
		return c.writeStored(code, deleted)
	}
	if c.row.ReturnsDeleted {
		return c.deleteAndReturn(options)
	}
	a, err := c.deletion(c.target, options)
	if err != nil {
		return err
	}
	return c.forward(a, format)
}

// deleteAndReturn answers with the object as it last was, as the storage of some of
// upstream's kinds does and that of custom resources does not.
func (c *call) deleteAndReturn(options *metav1.DeleteOptions) error {
	live, err := c.fetch(c.ctx, c.target)
	if err != nil {
		return err
	}
	answer, code, err := c.sendDeletion(c.ctx, c.target, options)
	if err != nil {
		return err
	}
	if answer["kind"] == c.row.Kind {
		live = answer // finalizers keep it
	}
	return c.writeStored(code, live)
}

// deletion is the request that deletes t.
func (c *call) deletion(t target, options *metav1.DeleteOptions) (asked, error) {
	sent := options.DeepCopy()
	sent.TypeMeta = metav1.TypeMeta{APIVersion: metav1.SchemeGroupVersion.String(), Kind: "DeleteOptions"}
	sent.GracePeriodSeconds = nil                                                                // custom resources have none
	if c.row.OrphansByDefault && sent.PropagationPolicy == nil && sent.OrphanDependents == nil { //nolint:staticcheck // SA1019: old clients still send it
		sent.PropagationPolicy = new(metav1.DeletePropagationOrphan)
	}
	raw, err := json.Marshal(sent)
	if err != nil {
		return asked{}, fmt.Errorf("encode DeleteOptions: %w", err)
	}
	return asked{method: http.MethodDelete, target: t, query: url.Values{}, body: raw}, nil
}

func (c *call) sendDeletion(ctx context.Context, t target, options *metav1.DeleteOptions) (map[string]any, int, error) {
	a, err := c.deletion(t, options)
	if err != nil {
		return nil, 0, err
	}
	return c.ask(ctx, a)
}

// readDeleteOptions reads the options from the body or, without one, from the query.
func (c *call) readDeleteOptions() (*metav1.DeleteOptions, error) {
	body, err := codec.ReadBody(c.r)
	if err != nil {
		return nil, err
	}
	options := &metav1.DeleteOptions{}
	if len(body) > 0 {
		err = decodeDeleteOptions(codec.MediaType(c.r), body, options)
	} else if err = metainternalversionscheme.ParameterCodec.DecodeParameters(c.r.URL.Query(), metav1.SchemeGroupVersion, options); err != nil {
		err = apierrors.NewBadRequest(err.Error())
	}
	if err != nil {
		return nil, err
	}
	if errs := metav1validation.ValidateDeleteOptions(options); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	return options, nil
}

// decodeDeleteOptions takes them of any group, as old clients send them, and in any
// content type that upstream takes.
func decodeDeleteOptions(media string, body []byte, into *metav1.DeleteOptions) error {
	if media == "" {
		media = runtime.ContentTypeJSON
	}
	codecs := metainternalversionscheme.Codecs
	info, ok := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), media)
	if !ok {
		return unsupportedMedia(runtime.ContentTypeJSON, runtime.ContentTypeYAML, runtime.ContentTypeProtobuf)
	}
	kind := metav1.SchemeGroupVersion.WithKind("DeleteOptions")
	decoded, _, err := codecs.DecoderToVersion(info.Serializer, kind.GroupVersion()).Decode(body, &kind, into)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if decoded != into {
		return apierrors.NewBadRequest("decoded object cannot be converted to DeleteOptions")
	}
	return nil
}
