package podcerts

import (
	"context"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// APIServer is the API server as API, for the node of this name.
type APIServer struct {
	Client client.WithWatch
	Node   string
}

// Requests implements API.
func (a APIServer) Requests() toolscache.ListerWatcher {
	ours := fields.OneTermEqualSelector("spec.nodeName", a.Node).String()
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = ours
			list := &certificatesv1.PodCertificateRequestList{}
			return list, a.Client.List(ctx, list, &client.ListOptions{Raw: &o})
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			o.FieldSelector = ours
			return a.Client.Watch(ctx, &certificatesv1.PodCertificateRequestList{}, &client.ListOptions{Raw: &o})
		},
	}
}

// Create implements API.
func (a APIServer) Create(ctx context.Context, request *certificatesv1.PodCertificateRequest) error {
	return a.Client.Create(ctx, request)
}

// Delete implements API.
func (a APIServer) Delete(ctx context.Context, request *certificatesv1.PodCertificateRequest) error {
	return client.IgnoreNotFound(a.Client.Delete(ctx, request, client.Preconditions{UID: &request.UID}))
}

// Account implements API.
func (a APIServer) Account(ctx context.Context, namespace, name string) (types.UID, error) {
	account := &corev1.ServiceAccount{}
	err := a.Client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, account)
	return account.UID, err
}

func timeOf(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Time
}
