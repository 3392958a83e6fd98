package manager

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	networkingv1 "github.com/keelson-dev/keelson/apis/networking/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
)

// prepare waits until the API server serves Keelson's kinds and until the
// namespaces exist that leader election and agents write into. It says what it
// waits for when that changes.
func prepare(ctx context.Context, cfg *rest.Config) error {
	logger := klog.FromContext(ctx)
	said := ""
	err := wait.PollUntilContextCancel(ctx, preparePeriod, true, func(ctx context.Context) (bool, error) {
		err := tryPrepare(ctx, cfg)
		if err == nil {
			return true, nil
		}
		if err.Error() != said {
			said = err.Error()
			logger.Info("Waiting for the API server", "reason", said)
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the API server at %s: %w", cfg.Host, err)
	}
	return nil
}

func tryPrepare(ctx context.Context, cfg *rest.Config) error {
	if err := checkKinds(cfg); err != nil {
		return err
	}
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("build a client: %w", err)
	}
	for _, name := range []string{keelsonv1.SystemNamespace, keelsonv1.NodeLeaseNamespace} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := c.Create(ctx, namespace); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create namespace %s: %w", name, err)
		}
	}
	return nil
}

// checkKinds tells whether the CRDs are installed and served.
func checkKinds(cfg *rest.Config) error {
	found, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return fmt.Errorf("build a discovery client: %w", err)
	}
	for _, group := range kinds() {
		if err := checkGroup(found, group.version, group.plurals); err != nil {
			return err
		}
	}
	return nil
}

// group lists the kinds of one API group that the controllers need.
type group struct {
	version schema.GroupVersion
	plurals []string
}

func kinds() []group {
	return []group{
		{keelsonv1.GroupVersion, []string{"pods", "nodes", "services", "endpoints", "replicationcontrollers", "podtemplates", "limitranges", "resourcequotas"}},
		{appsv1.GroupVersion, []string{"replicasets", "deployments", "daemonsets", "statefulsets", "controllerrevisions"}},
		{batchv1.GroupVersion, []string{"jobs", "cronjobs"}},
		{autoscalingv2.GroupVersion, []string{"horizontalpodautoscalers"}},
		{policyv1.GroupVersion, []string{"poddisruptionbudgets"}},
		{discoveryv1.GroupVersion, []string{"endpointslices"}},
		{networkingv1.GroupVersion, []string{"networkpolicies"}},
	}
}

func checkGroup(found discovery.DiscoveryInterface, group schema.GroupVersion, plurals []string) error {
	resources, err := found.ServerResourcesForGroupVersion(group.String())
	if err != nil {
		return fmt.Errorf("find the kinds of %s (are the CRDs of config/crd installed?): %w", group, err)
	}
	served := map[string]bool{}
	for _, resource := range resources.APIResources {
		served[resource.Name] = true
	}
	for _, want := range plurals {
		if !served[want] {
			return fmt.Errorf("%s.%s is not served: install the CRDs of config/crd", want, group.Group)
		}
	}
	return nil
}
