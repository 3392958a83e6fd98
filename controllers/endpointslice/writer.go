package endpointslice

import (
	"context"
	"fmt"

	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clientv1 "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

// writer is the client that the library writes with, for one pass over one Service. It
// turns built-in slices into ours and back. Of the large interface it has only what the
// library calls: creating, updating and deleting slices; anything else would panic, which
// the tests of this package would show after an upgrade.
type writer struct {
	kubernetes.Interface
	clientv1.DiscoveryV1Interface
	clientv1.EndpointSliceInterface

	ctx    context.Context //nolint:containedctx // the library passes none
	client client.Client
	// existing are the slices as they were read, by name.
	existing map[string]*discoveryv1.EndpointSlice
	// writes counts what was written.
	writes int
	// outdated: a write failed because somebody else wrote in between.
	outdated bool
}

var _ kubernetes.Interface = (*writer)(nil)

func newWriter(ctx context.Context, c client.Client, slices []discoveryv1.EndpointSlice) *writer {
	w := &writer{ctx: ctx, client: c, existing: make(map[string]*discoveryv1.EndpointSlice, len(slices))}
	for i := range slices {
		// The library must not replace what is being deleted.
		if slices[i].DeletionTimestamp == nil {
			w.existing[slices[i].Name] = &slices[i]
		}
	}
	return w
}

// seen are the existing slices as the library reads them.
func (w *writer) seen() []*upstreamdiscoveryv1.EndpointSlice {
	all := make([]*upstreamdiscoveryv1.EndpointSlice, 0, len(w.existing))
	for _, slice := range w.existing {
		all = append(all, upstreamSlice(slice))
	}
	return all
}

// DiscoveryV1 implements kubernetes.Interface.
func (w *writer) DiscoveryV1() clientv1.DiscoveryV1Interface { return w }

// EndpointSlices implements clientv1.DiscoveryV1Interface. All are of one namespace.
func (w *writer) EndpointSlices(string) clientv1.EndpointSliceInterface { return w }

// Create implements clientv1.EndpointSliceInterface.
func (w *writer) Create(_ context.Context, wanted *upstreamdiscoveryv1.EndpointSlice, _ metav1.CreateOptions) (*upstreamdiscoveryv1.EndpointSlice, error) {
	slice := renderSlice(&discoveryv1.EndpointSlice{}, wanted)
	if err := w.client.Create(w.ctx, slice); err != nil { //nolint:contextcheck // the caller's, see ctx
		return nil, err //nolint:wrapcheck // the library says what failed
	}
	w.writes++
	return upstreamSlice(slice), nil
}

// Update implements clientv1.EndpointSliceInterface. It patches: the cache does not have
// the whole object.
func (w *writer) Update(_ context.Context, wanted *upstreamdiscoveryv1.EndpointSlice, _ metav1.UpdateOptions) (*upstreamdiscoveryv1.EndpointSlice, error) {
	base, ok := w.existing[wanted.Name]
	if !ok {
		return nil, fmt.Errorf("slice %s was not read before", wanted.Name)
	}
	slice := renderSlice(base, wanted)
	err := w.client.Patch(w.ctx, slice, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})) //nolint:contextcheck // the caller's, see ctx
	if err != nil {
		w.outdated = w.outdated || apierrors.IsConflict(err) || apierrors.IsNotFound(err)
		return nil, err //nolint:wrapcheck // the library says what failed
	}
	w.writes++
	return upstreamSlice(slice), nil
}

// Delete implements clientv1.EndpointSliceInterface. A slice that is gone is as wanted.
func (w *writer) Delete(_ context.Context, name string, _ metav1.DeleteOptions) error {
	base, ok := w.existing[name]
	if !ok {
		return fmt.Errorf("slice %s was not read before", name)
	}
	err := w.client.Delete(w.ctx, base, client.Preconditions{UID: &base.UID}) //nolint:contextcheck // the caller's, see ctx
	if client.IgnoreNotFound(err) != nil {
		return err //nolint:wrapcheck // the library says what failed
	}
	w.writes++
	return nil
}
