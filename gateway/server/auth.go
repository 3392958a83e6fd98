package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	unionauth "k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/token/cache"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/union"
	apifilters "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/webhook"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/filters"
	"github.com/keelson-dev/keelson/gateway/streams"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/tokens"
)

// reviewTimeout bounds one question to the API server, reviewBackoff the tries.
const reviewTimeout = 10 * time.Second

func reviewBackoff() *wait.Backoff {
	return &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 5}
}

// newAuthenticator believes client certificates of the authority (nil: none) and tokens
// that the API server believes, those for its own audiences, as long as what they are bound
// to is there. There is no anonymous user.
func newAuthenticator(client kubernetes.Interface, bound *tokens.Verifier, ca dynamiccertificates.CAContentProvider, o Authentication) (authenticator.Request, error) {
	authenticatorfactory.RegisterMetrics()
	reviews, err := webhook.NewFromInterface(client.AuthenticationV1(), nil, *reviewBackoff(), reviewTimeout, webhook.AuthenticatorMetrics{
		RecordRequestTotal: authenticatorfactory.RecordRequestTotal, RecordRequestLatency: authenticatorfactory.RecordRequestLatency,
	})
	if err != nil {
		return nil, fmt.Errorf("set up authentication: %w", err)
	}
	ttl := o.TokenCacheTTL.Duration
	cached := cache.New(boundTokens{reviews, bound}, false, ttl, ttl)
	all := []authenticator.Request{bearertoken.New(cached), websocket.NewProtocolAuthenticator(cached)}
	if ca != nil {
		all = append([]authenticator.Request{x509.NewDynamic(ca.VerifyOptions, x509.CommonNameUserConversion)}, all...)
	}
	return group.NewAuthenticatedGroupAdder(unionauth.New(all...)), nil
}

// boundTokens adds to an authenticator what tokens are bound to.
type boundTokens struct {
	authenticator.Token
	bound *tokens.Verifier
}

// AuthenticateToken implements authenticator.Token.
func (b boundTokens) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	response, ok, err := b.Token.AuthenticateToken(ctx, token)
	if err != nil || !ok {
		return nil, false, err
	}
	extra, err := b.bound.Verify(ctx, token, response.User.GetName())
	if err != nil {
		return nil, false, err
	}
	if len(extra) == 0 {
		return response, true, nil
	}
	maps.Copy(extra, response.User.GetExtra())
	return &authenticator.Response{Audiences: response.Audiences, User: &user.DefaultInfo{
		Name: response.User.GetName(), UID: response.User.GetUID(), Groups: response.User.GetGroups(), Extra: extra,
	}}, true, nil
}

// newAuthorizer asks the API server, except about members of system:masters, who may
// do everything there, too.
func newAuthorizer(client kubernetes.Interface, o Authorization) (authorizer.Authorizer, error) {
	asking, err := authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: client.AuthorizationV1(),
		AllowCacheTTL:             o.AllowCacheTTL.Duration,
		DenyCacheTTL:              o.DenyCacheTTL.Duration,
		WebhookRetryBackoff:       reviewBackoff(),
	}.New()
	if err != nil {
		return nil, fmt.Errorf("set up authorization: %w", err)
	}
	both, err := union.New(
		union.NamedAuthorizer{AuthorizerName: "masters", Authorizer: authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)},
		union.NamedAuthorizer{AuthorizerName: "reviews", Authorizer: asking},
	)
	if err != nil {
		return nil, fmt.Errorf("set up authorization: %w", err)
	}
	return both, nil
}

// withAuthentication puts the user into the context, or answers 401; 503 while the API
// server cannot be asked, so that nobody takes good credentials for bad ones.
func withAuthentication(next http.Handler, a authenticator.Request) http.Handler {
	unauthorized := apifilters.Unauthorized(scheme.Codecs)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		response, ok, err := a.AuthenticateRequest(r)
		switch {
		case unreachable(err):
			refuseUnavailable(w, r, fmt.Errorf("ask the API server whose token this is: %w", err))
			return
		case err != nil || !ok:
			reason := "unauthorized"
			if err != nil {
				reason += ": " + err.Error()
			}
			filters.NoteRefused(r.Context(), reason)
			unauthorized.ServeHTTP(w, r)
			return
		}
		r.Header.Del("Authorization") // nobody behind needs it
		filters.NoteUser(r.Context(), response.User)
		next.ServeHTTP(w, r.WithContext(request.WithUser(r.Context(), response.User)))
	})
}

// unreachable says whether an error comes from a call to the API server that got no
// verdict, rather than from the verdict.
func unreachable(err error) bool {
	if many, ok := err.(utilerrors.Aggregate); ok { //nolint:errorlint // as it comes from the library, never wrapped
		return slices.ContainsFunc(utilerrors.Flatten(many).Errors(), unreachable)
	}
	var network *url.Error
	var status apierrors.APIStatus
	return errors.As(err, &network) || errors.As(err, &status) || errors.Is(err, context.DeadlineExceeded)
}

func refuseUnavailable(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Retry-After", "1")
	filters.Refuse(w, r, apierrors.NewServiceUnavailable(err.Error()))
}

// withImpersonation lets those act as others who may. Nobody may act as a member of
// the group that only gateways add to an identity.
func withImpersonation(next http.Handler, a authorizer.Authorizer) http.Handler {
	noted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, ok := request.UserFrom(r.Context()); ok && r.Context().Value(requestorKey{}) != u {
			filters.NoteImpersonated(r.Context(), u)
		}
		next.ServeHTTP(w, r)
	})
	impersonating := impersonation.WithConstrainedImpersonation(noted, a, scheme.Codecs)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, _ := request.UserFrom(r.Context())
		if reserved(u) || reservedGroups(r.Header["Impersonate-Group"]) {
			filters.Refuse(w, r, apierrors.NewForbidden(schema.GroupResource{Resource: "groups"}, table.AuthorizedGroup,
				fmt.Errorf("the groups %s… are the gateway's own", table.AuthorizedGroup)))
			return
		}
		impersonating.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestorKey{}, u)))
	})
}

// requestorKey is the context key of the user as authenticated.
type requestorKey struct{}

func reserved(u user.Info) bool { return u != nil && reservedGroups(u.GetGroups()) }

func reservedGroups(groups []string) bool {
	return slices.Contains(groups, table.AuthorizedGroup) || slices.Contains(groups, groupWithoutCreate)
}

// withAuthorization asks about the requests that the gateway serves by itself. About
// all others the API server decides when they get there, in the caller's name.
func withAuthorization(next http.Handler, a authorizer.Authorizer, served func(*request.RequestInfo) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, ok := request.RequestInfoFrom(r.Context())
		if !ok {
			filters.Refuse(w, r, apierrors.NewInternalError(fmt.Errorf("the request was not understood before it was to be authorized")))
			return
		}
		if !served(info) {
			next.ServeHTTP(w, r)
			return
		}
		attributes, err := apifilters.GetAuthorizerAttributes(r.Context())
		if err != nil {
			filters.Refuse(w, r, apierrors.NewInternalError(err))
			return
		}
		for _, verb := range streams.VerbsFor(info) {
			switch err := authorize(r.Context(), a, withVerb{attributes, verb}); {
			case apierrors.IsServiceUnavailable(err):
				refuseUnavailable(w, r, err)
				return
			case err != nil:
				filters.Refuse(w, r, err)
				return
			}
		}
		if mayCreate(r, info) && authorize(r.Context(), a, withVerb{attributes, "create"}) != nil {
			r = r.WithContext(withoutCreate(r.Context()))
		}
		next.ServeHTTP(w, r)
	})
}

// mayCreate says whether a request makes the object if it is not there. The caller then
// needs create, too, but only in that case, which the API server alone can tell: it
// gets the request in the name of a group that may do everything but create.
func mayCreate(r *http.Request, info *request.RequestInfo) bool {
	if info.Subresource != "" {
		return false
	}
	switch info.Verb {
	case "update":
		return true
	case "patch":
		switch types.PatchType(codec.MediaType(r)) {
		case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType:
			return false
		}
		return true
	}
	return false
}

type withoutCreateKey struct{}

func withoutCreate(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutCreateKey{}, true)
}

// authorizedGroup is the group that the transport adds to the identity of a caller who
// was authorized here.
func authorizedGroup(ctx context.Context) string {
	if ctx.Value(withoutCreateKey{}) != nil {
		return groupWithoutCreate
	}
	return table.AuthorizedGroup
}

// groupWithoutCreate is like table.AuthorizedGroup, but may not create.
const groupWithoutCreate = table.AuthorizedGroup + ":without-create"

type withVerb struct {
	authorizer.Attributes
	verb string
}

func (a withVerb) GetVerb() string  { return a.verb }
func (a withVerb) IsReadOnly() bool { return a.verb == "get" || a.verb == "list" || a.verb == "watch" }

// authorize returns upstream's error when the answer is no.
func authorize(ctx context.Context, a authorizer.Authorizer, attributes authorizer.Attributes) error {
	decision, reason, err := a.Authorize(ctx, attributes)
	switch {
	case decision == authorizer.DecisionAllow:
		return nil
	case unreachable(err):
		return apierrors.NewServiceUnavailable(fmt.Sprintf("ask the API server whether this is allowed: %v", err))
	case err != nil:
		return apierrors.NewInternalError(fmt.Errorf("ask the API server whether this is allowed: %w", err))
	}
	return responsewriters.ForbiddenStatusError(attributes, reason)
}
