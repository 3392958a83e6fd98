package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"
)

const (
	// groupMasters is allowed everything without a question, as everywhere.
	groupMasters = "system:masters"

	// Answers are kept as long as the kubelet keeps them.
	allowedTTL = 5 * time.Minute
	deniedTTL  = 30 * time.Second
)

// AccessReviewer asks the API server whether a user may do something.
type AccessReviewer interface {
	ReviewAccess(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error)
}

// attributes say what a request does to this Node.
type attributes struct{ verb, node, subresource string }

type authorizer struct {
	access AccessReviewer
	cache  *cache.LRUExpireCache
}

func newAuthorizer(access AccessReviewer, c clock.Clock) *authorizer {
	return &authorizer{access: access, cache: cache.NewLRUExpireCacheWithClock(reviewsKept, c)}
}

func (a *authorizer) authorize(ctx context.Context, user authenticationv1.UserInfo, at attributes) (bool, error) {
	if slices.Contains(user.Groups, groupMasters) {
		return true, nil
	}
	spec := computeReview(user, at)
	key, err := json.Marshal(spec)
	if err != nil {
		return false, fmt.Errorf("encoding the question for the API server: %w", err)
	}
	if allowed, ok := a.cache.Get(string(key)); ok {
		return allowed.(bool), nil
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	status, err := a.access.ReviewAccess(ctx, spec)
	if err != nil {
		return false, fmt.Errorf("asking the API server what %s may do: %w", user.Username, err)
	}
	allowed := status.Allowed && !status.Denied
	ttl := deniedTTL
	if allowed {
		ttl = allowedTTL
	}
	a.cache.Add(string(key), allowed, ttl)
	return allowed, nil
}

func computeReview(user authenticationv1.UserInfo, at attributes) authorizationv1.SubjectAccessReviewSpec {
	spec := authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, Groups: user.Groups, UID: user.UID,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: at.verb, Version: "v1", Resource: "nodes", Subresource: at.subresource, Name: at.node,
		},
	}
	for name, values := range user.Extra {
		if spec.Extra == nil {
			spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		spec.Extra[name] = authorizationv1.ExtraValue(values)
	}
	return spec
}
