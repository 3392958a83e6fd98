package admission

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/internal/admissionhooks"
)

// The webhooks that the manager adds to its own registration as long as somebody has
// configured a hook for what they are called for.
const (
	// hooksName is of those that see every caller.
	hooksName = "hooks.keelson.dev"
	// systemHooksName is of the one for what callers create and update whom the
	// registration keeps from the handler of people's writes.
	systemHooksName = "system-hooks.keelson.dev"
	// hooksTimeout is the longest that the API server allows, in seconds: hooks have
	// timeouts of their own.
	hooksTimeout = 30
)

// hookSource is what is configured.
type hookSource struct {
	*admissionhooks.Hooks
	// changed carries a word for each change of it; one that is not taken is enough.
	changed chan struct{}
}

// addHooks evaluates hooks on every replica and serves them.
func addHooks(mgr ctrl.Manager, server *webhook.DefaultServer, handler *handler) (*hookSource, error) {
	source := &hookSource{changed: make(chan struct{}, 1)}
	var err error
	source.Hooks, err = admissionhooks.New(admissionhooks.Options{
		Table: table.Keelson(), Config: mgr.GetConfig(), Mapper: mgr.GetRESTMapper(), Service: serviceOf(mgr.GetClient()),
		Changed: func() {
			select {
			case source.changed <- struct{}{}:
			default: // a look is due already
			}
		},
	})
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(everywhere{source.Start}); err != nil {
		return nil, fmt.Errorf("add the watches of webhooks and admission policies: %w", err)
	}
	view := newHookView(source)
	handler.hooks = view
	server.Register(MutatePath, &admission.Webhook{Handler: &mutatingGate{view: view, judge: handler.judgeObject}})
	server.Register(ValidatePath, &admission.Webhook{Handler: &validatingGate{view: view}})
	return source, nil
}

// enqueueChanges asks for a look at the registration whenever something else is
// configured.
func (s *hookSource) enqueueChanges(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.changed:
				queue.Add(reconcile.Request{NamespacedName: secretKey})
			}
		}
	}()
	return nil
}

// everywhere runs on every replica.
type everywhere struct{ start func(context.Context) error }

var _ manager.LeaderElectionRunnable = everywhere{}

func (e everywhere) Start(ctx context.Context) error { return e.start(ctx) }
func (everywhere) NeedLeaderElection() bool          { return false }

// serviceOf finds the Service that a webhook names.
func serviceOf(reader client.Reader) func(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	return func(ctx context.Context, namespace, name string) (*corev1.Service, error) {
		service := &keelsonv1.Service{}
		if err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, service); err != nil {
			return nil, err
		}
		return &corev1.Service{ObjectMeta: service.ObjectMeta, Spec: service.Spec}, nil
	}
}

// planMutating is the registration's list with the entries that points need, and without
// those that nobody needs any more. The first entry, which the manifest has, says how the
// API server reaches the manager and whom it keeps from it.
func planMutating(webhooks []admissionregistrationv1.MutatingWebhook, points map[admissionhooks.Point]bool, rows *table.Table) ([]admissionregistrationv1.MutatingWebhook, error) {
	if len(webhooks) == 0 {
		return webhooks, nil
	}
	first := webhooks[0]
	config, err := at(first.ClientConfig, MutatePath)
	if err != nil {
		return nil, err
	}
	kept := slices.DeleteFunc(slices.Clone(webhooks), func(w admissionregistrationv1.MutatingWebhook) bool {
		return w.Name == hooksName || w.Name == systemHooksName
	})
	people, system := splitRules(admissionhooks.RegistrationRules(rows, points))
	entry := admissionregistrationv1.MutatingWebhook{
		ClientConfig: config, AdmissionReviewVersions: []string{"v1"},
		FailurePolicy: new(admissionregistrationv1.Fail), MatchPolicy: new(admissionregistrationv1.Equivalent),
		ReinvocationPolicy: new(admissionregistrationv1.NeverReinvocationPolicy),
		SideEffects:        new(admissionregistrationv1.SideEffectClassNoneOnDryRun), TimeoutSeconds: new(int32(hooksTimeout)),
		NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{},
	}
	if len(people) > 0 {
		all := entry
		all.Name, all.Rules = hooksName, people
		kept = append(kept, all)
	}
	if len(system) > 0 && len(first.MatchConditions) > 0 {
		entry.Name, entry.Rules = systemHooksName, system
		entry.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "kept-from-the-others", Expression: noneOf(first.MatchConditions)}}
		kept = append(kept, entry)
	}
	return kept, nil
}

// planValidating is planMutating for the hooks that judge.
func planValidating(webhooks []admissionregistrationv1.ValidatingWebhook, points map[admissionhooks.Point]bool, rows *table.Table) ([]admissionregistrationv1.ValidatingWebhook, error) {
	if len(webhooks) == 0 {
		return webhooks, nil
	}
	config, err := at(webhooks[0].ClientConfig, ValidatePath)
	if err != nil {
		return nil, err
	}
	kept := slices.DeleteFunc(slices.Clone(webhooks), func(w admissionregistrationv1.ValidatingWebhook) bool { return w.Name == hooksName })
	if rules := admissionhooks.RegistrationRules(rows, points); len(rules) > 0 {
		kept = append(kept, admissionregistrationv1.ValidatingWebhook{
			Name: hooksName, Rules: rules, ClientConfig: config, AdmissionReviewVersions: []string{"v1"},
			FailurePolicy: new(admissionregistrationv1.Fail), MatchPolicy: new(admissionregistrationv1.Equivalent),
			SideEffects: new(admissionregistrationv1.SideEffectClassNoneOnDryRun), TimeoutSeconds: new(int32(hooksTimeout)),
			NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{},
		})
	}
	return kept, nil
}

// splitRules divides rules into those of requests that no other entry covers, and those
// that the handler of people's writes covers for people.
func splitRules(rules []admissionregistrationv1.RuleWithOperations) (others, written []admissionregistrationv1.RuleWithOperations) {
	for _, rule := range rules {
		objects, subresources := rule, rule
		objects.Resources, subresources.Resources = nil, nil
		for _, resource := range rule.Resources {
			if rule.Operations[0] != admissionregistrationv1.Delete && !strings.Contains(resource, "/") {
				objects.Resources = append(objects.Resources, resource)
				continue
			}
			subresources.Resources = append(subresources.Resources, resource)
		}
		if len(objects.Resources) > 0 {
			written = append(written, objects)
		}
		if len(subresources.Resources) > 0 {
			others = append(others, subresources)
		}
	}
	return others, written
}

// noneOf is true where one of conditions is not.
func noneOf(conditions []admissionregistrationv1.MatchCondition) string {
	all := make([]string, len(conditions))
	for i, condition := range conditions {
		all[i] = "(" + condition.Expression + ")"
	}
	return "!(" + strings.Join(all, " && ") + ")"
}

// at is the same server at another path.
func at(config admissionregistrationv1.WebhookClientConfig, to string) (admissionregistrationv1.WebhookClientConfig, error) {
	other := *config.DeepCopy()
	switch {
	case other.Service != nil:
		other.Service.Path = new(to)
	case other.URL != nil:
		parsed, err := url.Parse(*other.URL)
		if err != nil {
			return other, fmt.Errorf("read the URL of the registration: %w", err)
		}
		parsed.Path = path.Join(path.Dir(parsed.Path), to)
		other.URL = new(parsed.String())
	}
	return other, nil
}

// syncMutating writes the plan into the registration and says whether it changes it.
func (s *hookSource) syncMutating(registration *admissionregistrationv1.MutatingWebhookConfiguration) (bool, error) {
	mutating, _, ok := s.Points()
	if !ok {
		return false, nil
	}
	planned, err := planMutating(registration.Webhooks, mutating, table.Keelson())
	if err != nil || equality.Semantic.DeepEqual(planned, registration.Webhooks) {
		return false, err
	}
	registration.Webhooks = planned
	return true, nil
}

// syncValidating is syncMutating for the other registration.
func (s *hookSource) syncValidating(registration *admissionregistrationv1.ValidatingWebhookConfiguration) (bool, error) {
	_, validating, ok := s.Points()
	if !ok {
		return false, nil
	}
	planned, err := planValidating(registration.Webhooks, validating, table.Keelson())
	if err != nil || equality.Semantic.DeepEqual(planned, registration.Webhooks) {
		return false, err
	}
	registration.Webhooks = planned
	return true, nil
}
