package agent

import (
	"context"

	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func addRuntimeClasses(s *runtime.Scheme) error {
	s.AddKnownTypes(nodev1.SchemeGroupVersion, &nodev1.RuntimeClass{})
	metav1.AddToGroupVersion(s, nodev1.SchemeGroupVersion)
	return nil
}

// runtimeHandler asks for a RuntimeClass. Few Pods name one, and only their start waits,
// so nothing is kept of it.
func (a *api) runtimeHandler(ctx context.Context, class string) (string, error) {
	found := &nodev1.RuntimeClass{}
	if err := a.client.Get(ctx, client.ObjectKey{Name: class}, found); err != nil {
		return "", err
	}
	return found.Handler, nil
}
