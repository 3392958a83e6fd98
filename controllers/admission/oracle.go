package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// dryRunPrefix starts the name of a dry-run object whose own name is taken.
const dryRunPrefix = "keelson-dry-run-"

// errNoBuiltin says that the API server does not serve the built-in kind.
var errNoBuiltin = errors.New("the API server does not serve the built-in kind")

// oracle asks upstream for its opinion.
type oracle interface {
	// dryRun returns upstream's version of the probe and its warnings. An error that
	// carries a Status is upstream's refusal.
	dryRun(ctx context.Context, k kind, probe tree) (answer []byte, warnings []string, err error)
}

// apiOracle asks the API server by creating built-in objects with dryRun=All.
type apiOracle struct {
	client kubernetes.Interface
	rest   rest.Interface

	mu sync.Mutex
	// accountSeen spares the look at DryRunAccount once it is there.
	accountSeen bool
}

func newAPIOracle(config *rest.Config) (*apiOracle, error) {
	config = rest.CopyConfig(config)
	config.WarningHandlerWithContext = warningCollector{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("build the client of the dry run: %w", err)
	}
	return &apiOracle{client: client, rest: client.CoreV1().RESTClient()}, nil
}

func (o *apiOracle) dryRun(ctx context.Context, k kind, probe tree) ([]byte, []string, error) {
	if err := o.ensureAccount(ctx, k); err != nil {
		return nil, nil, err
	}
	answer, warnings, err := o.create(ctx, k, probe)
	switch {
	case apierrors.IsAlreadyExists(err):
		// A built-in object has the name already. The name itself is fine: it was
		// validated before the lookup.
		metadata := probe.child("metadata")
		delete(metadata, "name")
		metadata["generateName"] = dryRunPrefix
		return o.create(ctx, k, probe)
	case apierrors.IsForbidden(err) && o.forgetAccount(k):
		// The account may have been deleted since.
		if accountErr := o.ensureAccount(ctx, k); accountErr != nil {
			return nil, nil, accountErr
		}
		return o.create(ctx, k, probe)
	}
	return answer, warnings, err
}

func (o *apiOracle) create(ctx context.Context, k kind, probe tree) ([]byte, []string, error) {
	body, err := json.Marshal(probe)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the dry run: %w", err)
	}
	warnings := &warningList{}
	path := "/apis/" + k.upstream.String()
	if k.upstream.Group == "" {
		path = "/api/" + k.upstream.Version
	}
	if !k.clusterScoped {
		path += "/namespaces/" + keelsonv1.SystemNamespace
	}
	request := o.rest.Post().AbsPath(path, k.resource).
		SetHeader("Content-Type", "application/json").SetHeader("Accept", "application/json").
		Param("dryRun", metav1.DryRunAll).Param("fieldValidation", metav1.FieldValidationIgnore).
		Body(body)
	result := request.Do(context.WithValue(ctx, warningsKey{}, warnings))
	answer, err := result.Raw()
	if err != nil {
		// Raw leaves the error undecoded; Error decodes the Status in the body.
		err = result.Error()
	}
	return answer, warnings.texts, classify(err)
}

// classify tells "no such kind" from "no such namespace", which are both 404.
func classify(err error) error {
	if !apierrors.IsNotFound(err) {
		return err
	}
	var api apierrors.APIStatus
	if errors.As(err, &api) && api.Status().Details != nil && api.Status().Details.Kind == "namespaces" {
		return fmt.Errorf("the namespace of the dry run is missing, create it: %s", api.Status().Message)
	}
	return errNoBuiltin
}

// ensureAccount creates the ServiceAccount of dry-run Pods.
func (o *apiOracle) ensureAccount(ctx context.Context, k kind) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k.resource != "pods" || o.accountSeen {
		return nil
	}
	account := &corev1.ServiceAccount{
		ObjectMeta:                   metav1.ObjectMeta{Name: DryRunAccount, Namespace: keelsonv1.SystemNamespace},
		AutomountServiceAccountToken: new(false),
	}
	_, err := o.client.CoreV1().ServiceAccounts(keelsonv1.SystemNamespace).Create(ctx, account, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create ServiceAccount %s/%s for the dry run: %w", account.Namespace, account.Name, plain(err))
	}
	o.accountSeen = true
	return nil
}

// forgetAccount says whether the account was taken for granted until now.
func (o *apiOracle) forgetAccount(k kind) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen := o.accountSeen && k.resource == "pods"
	o.accountSeen = false
	return seen
}

// plain hides the Status of an error that is not about the user's object.
func plain(err error) error { return errors.New(err.Error()) }

// warningCode is "miscellaneous persistent warning" of RFC 7234, the only code in use.
const warningCode = 299

type warningsKey struct{}

type warningList struct{ texts []string }

// warningCollector hands the warnings of a dry run to its caller, who passes them
// on to the person that wrote the object.
type warningCollector struct{}

func (warningCollector) HandleWarningHeaderWithContext(ctx context.Context, code int, _ string, text string) {
	list, ok := ctx.Value(warningsKey{}).(*warningList)
	if ok && code == warningCode && text != "" {
		list.texts = append(list.texts, text)
	}
}
