package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/upstream"
	"github.com/keelson-dev/keelson/internal/boundtoken"
)

// leeway is how long a token outlives the deletion of its object, as upstream's.
const leeway = time.Minute

// errInvalidated is upstream's error about a token whose object is gone.
var errInvalidated = errors.New("service account token has been invalidated")

// Verifier judges tokens by what they are bound to.
type Verifier struct {
	// Upstream reads Pods and Nodes in the gateway's name.
	Upstream *upstream.Client
	Clock    clock.PassiveClock
}

// Verify returns what is known of the user of a token beside what the API server, which
// believes it, has said: the Pod and the node (authentication.kubernetes.io/pod-name and its
// like). It returns nothing for tokens that are bound to nothing. The error of an object that
// cannot be read is an apierrors.APIStatus; every other one says in upstream's words why the
// token is not valid any more.
func (v *Verifier) Verify(ctx context.Context, token, username string) (map[string][]string, error) {
	bound, ok := boundtoken.FromToken(token)
	if !ok || !strings.HasPrefix(username, serviceaccount.ServiceAccountUsernamePrefix) {
		return nil, nil
	}
	namespace, account, err := serviceaccount.SplitUsername(username)
	if err != nil {
		return nil, fmt.Errorf("read whose token it is: %w", err)
	}
	extra := map[string][]string{}
	if bound.Kind == boundtoken.KindNode {
		node, err := v.node(ctx, bound.Name)
		if err != nil {
			return nil, gone(err)
		}
		nameNode(extra, node)
		return extra, v.check(&node.ObjectMeta, bound, "node UID (%s) does not match service account node ref claim (%s)")
	}
	pod, err := v.pod(ctx, namespace, bound.Name)
	if err != nil {
		return nil, gone(err)
	}
	if err := v.check(&pod.ObjectMeta, bound, "pod UID (%s) does not match service account pod ref claim (%s)"); err != nil {
		return nil, err
	}
	if pod.Spec.ServiceAccountName != account { // upstream asks before it issues the token
		return nil, errInvalidated
	}
	extra[serviceaccount.PodNameKey], extra[serviceaccount.PodUIDKey] = []string{pod.Name}, []string{string(pod.UID)}
	return extra, v.addNode(ctx, extra, pod.Spec.NodeName)
}

// addNode says on which node a Pod is. Of a Node that is gone only the name is known.
func (v *Verifier) addNode(ctx context.Context, extra map[string][]string, name string) error {
	if name == "" {
		return nil
	}
	node, err := v.node(ctx, name)
	if apierrors.IsNotFound(err) {
		extra[serviceaccount.NodeNameKey] = []string{name}
		return nil
	}
	if err != nil {
		return err
	}
	nameNode(extra, node)
	return nil
}

func nameNode(extra map[string][]string, node *metav1.PartialObjectMetadata) {
	extra[serviceaccount.NodeNameKey], extra[serviceaccount.NodeUIDKey] = []string{node.Name}, []string{string(node.UID)}
}

// check says why a token bound to the object of that name is not valid; mismatch is the
// message when the object is another one.
func (v *Verifier) check(object *metav1.ObjectMeta, bound boundtoken.Object, mismatch string) error {
	switch {
	case object.UID != bound.UID:
		return fmt.Errorf(mismatch, object.UID, bound.UID)
	case object.DeletionTimestamp != nil && object.DeletionTimestamp.Time.Before(v.Clock.Now().Add(-leeway)):
		return errInvalidated
	}
	return nil
}

// gone is what an error of a look at a bound object means for the token.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return errInvalidated
	}
	return err
}

func (v *Verifier) pod(ctx context.Context, namespace, name string) (*keelsonv1.Pod, error) {
	pod := &keelsonv1.Pod{}
	return pod, v.read(ctx, "namespaces/"+url.PathEscape(namespace)+"/pods", "pods", name, pod)
}

func (v *Verifier) node(ctx context.Context, name string) (*metav1.PartialObjectMetadata, error) {
	node := &metav1.PartialObjectMetadata{}
	return node, v.read(ctx, "nodes", "nodes", name, node)
}

func (v *Verifier) read(ctx context.Context, folder, resource, name string, into any) error {
	unread := func(err error) error {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("read %s %s, which a token is bound to: %v", resource, name, err))
	}
	response, err := v.Upstream.Do(upstream.AsGateway(ctx), upstream.Request{
		Method: http.MethodGet,
		Path:   "/apis/" + keelsonv1.GroupVersion.String() + "/" + folder + "/" + url.PathEscape(name),
		Header: http.Header{"Accept": {"application/json"}},
	})
	if err != nil {
		return unread(err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return apierrors.NewNotFound(corev1.Resource(resource), name)
	default:
		return unread(errors.New(upstream.Refusal(response)))
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return unread(err)
	}
	return nil
}
