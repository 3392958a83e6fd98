package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	kjson "sigs.k8s.io/json"

	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/translate"
	"github.com/keelson-dev/keelson/internal/admissionhooks"
)

// hooks are the webhooks and policies that people configure for Keelson's kinds under
// their plain names.
type hooks interface {
	Mutates(admissionhooks.Point) bool
	Mutate(context.Context, *admissionhooks.Request) (admissionhooks.Outcome, error)
	Validate(context.Context, *admissionhooks.Request) (admissionhooks.Outcome, error)
}

// hookView shows requests to hooks as if Keelson's kinds were the built-in ones.
type hookView struct {
	hooks      hooks
	translator *translate.Translator
	rows       map[schema.GroupVersionResource]table.Row
}

func newHookView(h hooks) *hookView {
	rows := table.Keelson()
	view := &hookView{hooks: h, translator: translate.New(rows), rows: map[schema.GroupVersionResource]table.Row{}}
	for _, row := range rows.Rows() {
		view.rows[row.Stored] = row
	}
	return view
}

// shown is a request as hooks see it.
type shown struct {
	row     table.Row
	request *admissionhooks.Request
	// stored is the object as it was sent, nil for a deletion.
	stored map[string]any
}

// mutates says whether a hook may change what a request is about, before the request is
// read.
func (v *hookView) mutates(request *admissionv1.AdmissionRequest) bool {
	row, ok := v.row(request)
	if !ok {
		return false
	}
	point := admissionhooks.Point{
		Operation: admissionregistrationv1.OperationType(request.Operation),
		Resource:  row.Upstream.GroupResource(), Subresource: request.SubResource,
	}
	if v.hooks.Mutates(point) {
		return true
	}
	if !isPodUpdate(row, request) {
		return false
	}
	return slices.ContainsFunc(podAspects(), func(aspect admissionhooks.Point) bool { return v.hooks.Mutates(aspect) })
}

func (v *hookView) row(request *admissionv1.AdmissionRequest) (table.Row, bool) {
	row, ok := v.rows[schema.GroupVersionResource(request.Resource)]
	return row, ok
}

// show turns a request into what hooks see, with object instead of its own when that is
// not nil. It is nil for what is no write of the object that clients see, such as the
// finalizer that a node takes off.
func (v *hookView) show(request *admissionv1.AdmissionRequest, object []byte) (*shown, error) {
	row, ok := v.row(request)
	if !ok {
		return nil, fmt.Errorf("the webhook does not serve %s: the registration is wrong", request.Resource.Resource)
	}
	if object == nil {
		object = request.Object.Raw
	}
	s := &shown{row: row, request: &admissionhooks.Request{
		Operation: upstream.Operation(request.Operation),
		Resource:  row.Upstream, Subresource: request.SubResource, Kind: schema.GroupVersionKind(request.Kind),
		Namespace: request.Namespace, Name: request.Name,
		User: userOf(request.UserInfo), DryRun: request.DryRun != nil && *request.DryRun,
	}}
	if s.request.Kind == row.StoredKind() {
		s.request.Kind = row.UpstreamKind()
	}
	var oldStored map[string]any
	var err error
	if s.stored, s.request.Object, err = v.tree(object); err != nil {
		return nil, err
	}
	if oldStored, s.request.OldObject, err = v.tree(request.OldObject.Raw); err != nil {
		return nil, err
	}
	if s.request.Options, err = decodeObject(request.Options.Raw); err != nil {
		return nil, err
	}
	if request.Operation != admissionv1.Update {
		return s, nil
	}
	if reflect.DeepEqual(s.request.Object, s.request.OldObject) && !reflect.DeepEqual(s.stored, oldStored) {
		return nil, nil
	}
	if isPodUpdate(row, request) {
		showPodUpdate(s.request)
	}
	if s.request.Subresource == bindingSubresource && isGateway(request.UserInfo.Username) {
		return nil, nil // it has asked hooks, in the name of whoever binds
	}
	return s, nil
}

// tree decodes an object, as it is stored and as clients see it.
func (v *hookView) tree(raw []byte) (stored, plain map[string]any, err error) {
	if stored, err = decodeObject(raw); err != nil || stored == nil {
		return nil, nil, err
	}
	if plain, err = decodeObject(raw); err != nil {
		return nil, nil, err
	}
	if err := v.translator.ToUpstream(plain); err != nil {
		return nil, nil, err
	}
	return stored, plain, nil
}

func decodeObject(raw []byte) (map[string]any, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var object map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &object); err != nil {
		return nil, fmt.Errorf("decode the object: %w", err)
	}
	return object, nil
}

// mutate lets hooks change an object; object stands for the request's own when it is not
// nil. It returns the changed object in its stored form, nil for one that is left alone.
func (v *hookView) mutate(ctx context.Context, request *admissionv1.AdmissionRequest, object []byte) ([]byte, admissionhooks.Outcome, error) {
	s, err := v.show(request, object)
	if err != nil || s == nil {
		return nil, admissionhooks.Outcome{}, err
	}
	outcome, err := v.hooks.Mutate(ctx, s.request)
	if err != nil || outcome.Object == nil {
		return nil, outcome, err
	}
	if s.request.Subresource == bindingSubresource {
		return nil, outcome, apierrors.NewInternalError(errors.New("a webhook or a policy attempted to modify a Binding, which Keelson does not support"))
	}
	changed := outcome.Object
	if s.request.Kind == s.row.UpstreamKind() {
		if err := v.translator.ToStored(s.row, changed); err != nil {
			return nil, outcome, err
		}
		if err := v.translator.Restore(s.row, s.stored, changed); err != nil {
			return nil, outcome, err
		}
	}
	raw, err := json.Marshal(changed)
	if err != nil {
		return nil, outcome, fmt.Errorf("encode the changed object: %w", err)
	}
	return raw, outcome, nil
}

// validate asks hooks about a request.
func (v *hookView) validate(ctx context.Context, request *admissionv1.AdmissionRequest) (admissionhooks.Outcome, error) {
	s, err := v.show(request, nil)
	if err != nil || s == nil {
		return admissionhooks.Outcome{}, err
	}
	return v.hooks.Validate(ctx, s.request)
}

// userOf is the user whom upstream would see: without the groups by which a gateway says
// that it has authorized the request.
func userOf(info authenticationv1.UserInfo) user.Info {
	extra := make(map[string][]string, len(info.Extra))
	for key, values := range info.Extra {
		extra[key] = values
	}
	groups := slices.DeleteFunc(slices.Clone(info.Groups), func(group string) bool {
		return strings.HasPrefix(group, table.AuthorizedGroup)
	})
	return &user.DefaultInfo{Name: info.Username, UID: info.UID, Groups: groups, Extra: extra}
}

// asResponse adds what hooks said to a response.
func asResponse(response admission.Response, outcome admissionhooks.Outcome) admission.Response {
	response.Warnings = append(response.Warnings, outcome.Warnings...)
	if len(outcome.Annotations) > 0 {
		response.AuditAnnotations = outcome.Annotations
	}
	return response
}

// refuseAs is a refusal in the words of err.
func refuseAs(err error) admission.Response {
	var api apierrors.APIStatus
	if errors.As(err, &api) {
		result := api.Status()
		return refuse(&result)
	}
	status := apierrors.NewInternalError(err).Status()
	return refuse(&status)
}
