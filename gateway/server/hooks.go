package server

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/internal/admissionhooks"
)

// newHooks evaluates webhooks and policies for what only the gateway sees.
func newHooks(config *rest.Config) (*admissionhooks.Hooks, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for admission: %w", err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, client)
	if err != nil {
		return nil, fmt.Errorf("make a mapper for admission: %w", err)
	}
	objects, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("make a client for admission: %w", err)
	}
	return admissionhooks.New(admissionhooks.Options{
		Table: table.Keelson(), Side: admissionhooks.InGateway, Config: config, Mapper: mapper,
		Service: func(ctx context.Context, namespace, name string) (*corev1.Service, error) {
			found, err := objects.Resource(keelsonv1.GroupVersion.WithResource("services")).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			service := &corev1.Service{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Object, service); err != nil {
				return nil, fmt.Errorf("decode Service %s/%s: %w", namespace, name, err)
			}
			return service, nil
		},
	})
}

// watchHooks keeps hooks current until ctx ends.
func watchHooks(ctx context.Context, hooks *admissionhooks.Hooks) {
	if err := hooks.Start(ctx); err != nil {
		klog.FromContext(ctx).Error(err, "Cannot watch for webhooks and admission policies: connections and evictions are refused")
	}
}
