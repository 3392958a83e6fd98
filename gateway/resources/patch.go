package resources

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversionscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/translate"
)

// patchTypes are those of upstream's built-in kinds, in upstream's order.
var patchTypes = []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType}

// patchRequest is a patch as the client sent it.
type patchRequest struct {
	kind types.PatchType
	body []byte
}

// patch changes an object. What the API server can do on the stored form, it does:
// server-side apply, and JSON and merge patches of what the two forms share. Everything
// else is done here on the form that the client knows.
func (c *call) patch() error {
	p, err := c.readPatch()
	if err != nil {
		return err
	}
	format, err := c.codec.Negotiate(c.r, false)
	if err != nil {
		return err
	}
	if p.kind == types.ApplyYAMLPatchType {
		return c.apply(p, format)
	}
	stored, err := c.storedPatch(p)
	if errors.Is(err, translate.ErrNeedsObject) {
		return c.patchHere(p)
	}
	if err != nil {
		return err
	}
	return c.sendPatch(asked{method: http.MethodPatch, target: c.target, query: writeQuery(c.r), contentType: string(p.kind), body: stored}, format)
}

func (c *call) sendPatch(a asked, format codec.Format) error {
	if !c.allocates() {
		return c.forward(a, format)
	}
	patched, code, err := c.ask(c.ctx, a)
	if err != nil {
		return err
	}
	return c.writeStored(code, c.allocated(patched))
}

// storedPatch is the patch for the API server to apply, or ErrNeedsObject.
func (c *call) storedPatch(p patchRequest) ([]byte, error) {
	if c.subresource != "" || p.kind == types.StrategicMergePatchType {
		return nil, translate.ErrNeedsObject
	}
	if c.row.Kind == "Pod" && mentionsSpec(p.body) {
		return nil, translate.ErrNeedsObject // checkPodChange has to see the outcome
	}
	return c.translator.PatchToStored(c.row, p.kind, p.body)
}

// mentionsSpec says whether a patch may be about the parts of a Pod that have their own
// subresources. It may say so of others, which costs a read.
func mentionsSpec(body []byte) bool {
	text := string(body)
	return strings.Contains(text, "nodeName") || strings.Contains(text, "ephemeralContainers") || strings.Contains(text, "resources") ||
		strings.Contains(text, `"/spec"`) || strings.Contains(text, `""`) || strings.Contains(text, `\`)
}

// patchHere applies the patch to the object as the client sees it.
func (c *call) patchHere(p patchRequest) error {
	patched, code, err := c.modify(func(live map[string]any) (map[string]any, error) {
		if err := c.translator.ToUpstream(live); err != nil {
			return nil, err
		}
		next, err := applyPatch(p, live, c.row.New())
		if err != nil {
			return nil, err
		}
		return next, c.translator.ToStored(c.row, next)
	})
	if err != nil {
		return err
	}
	return c.writeStored(code, c.allocated(patched))
}

// readPatch reads the request and checks its options as upstream does.
func (c *call) readPatch() (patchRequest, error) {
	p := patchRequest{kind: types.PatchType(codec.MediaType(c.r))}
	if !slices.Contains(patchTypes, p.kind) {
		return p, unsupportedPatch()
	}
	options := &metav1.PatchOptions{}
	if err := metainternalversionscheme.ParameterCodec.DecodeParameters(c.r.URL.Query(), metav1.SchemeGroupVersion, options); err != nil {
		return p, apierrors.NewBadRequest(err.Error())
	}
	if errs := metav1validation.ValidatePatchOptions(options, p.kind); len(errs) > 0 {
		return p, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "PatchOptions"}, "", errs)
	}
	var err error
	p.body, err = codec.ReadBody(c.r)
	return p, err
}

func unsupportedPatch() error {
	var accepted []string
	for _, kind := range patchTypes {
		accepted = append(accepted, string(kind))
	}
	return unsupportedMedia(accepted...)
}

// unsupportedMedia is upstream's 415.
func unsupportedMedia(accepted ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + strings.Join(accepted, ", "),
	}}
}
