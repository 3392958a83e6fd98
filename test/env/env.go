// Package env starts a real kube-apiserver and etcd with Keelson's CRDs for tests
// of one package, through controller-runtime's envtest.
//
// It starts nothing else: no controller, no scheduler, no agent runs unless the test
// adds it with StartManager. Everything listens on loopback, on free ports, with its
// data in temporary directories that Run removes. A test process that is killed, or
// that panics outside a test's own goroutine, cannot do that: it leaves its etcd and
// /tmp/k8s_test_framework_*, which nothing else uses, to be ended by hand.
package env

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	networkingv1 "github.com/keelson-dev/keelson/apis/networking/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
)

const (
	assetsVariable = "KUBEBUILDER_ASSETS"
	// startTimeout is generous: tests of several packages start control planes at
	// once on machines with two cores.
	startTimeout = 2 * time.Minute
)

// Environment is a running control plane.
type Environment struct {
	// Config has cluster-admin rights.
	Config *rest.Config
	// Client reads from and writes to the API server directly: no cache.
	Client client.Client
	// Scheme knows the stock kinds and Keelson's.
	Scheme *runtime.Scheme
	// Kubeconfig is the path of a file that gives kubectl the rights of Config.
	Kubeconfig string
	// BinDir holds etcd, kube-apiserver and kubectl.
	BinDir string
}

// Run starts a control plane, publishes it through env, runs the tests of m, stops
// the control plane and returns the exit code:
//
//	var testEnv env.Environment
//
//	func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }
//
// options change the control plane before it starts.
func Run(m *testing.M, env *Environment, options ...Option) int {
	ctrl.SetLogger(klog.Background())
	stop, err := start(env, options...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Cannot start the test control plane:", err)
		return 1
	}
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "Cannot stop the test control plane:", err)
		return 1
	}
	return code
}

// RunInDir makes a temporary directory, lets prepare fill it with what all tests of a
// package share, and runs them as Run does, with the options that prepare returns.
func RunInDir(m *testing.M, env *Environment, prepare func(dir string) ([]Option, error)) (code int) {
	dir, err := os.MkdirTemp("", "keelson-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "Cannot make a temporary directory:", err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "Cannot remove the temporary directory:", err)
		}
	}()
	options, err := prepare(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Cannot prepare:", err)
		return 1
	}
	return Run(m, env, options...)
}

// BuildManager builds the manager into dir and returns its path.
func BuildManager(dir string) (path string, err error) {
	path = filepath.Join(dir, "keelson-manager")
	build := exec.Command("go", "build", "-o", path, "github.com/keelson-dev/keelson/cmd/manager")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the manager: %w\n%s", err, out)
	}
	return path, nil
}

// TokensSignedBy is an Option: the API server signs tokens with key, and trusts those
// that public verifies.
func TokensSignedBy(key, public string) Option {
	return func(e *envtest.Environment) {
		e.ControlPlane.GetAPIServer().Configure().
			Set("service-account-signing-key-file", key).
			Set("service-account-key-file", public)
	}
}

// Option changes the control plane before it starts.
type Option func(*envtest.Environment)

// StockAdmission switches on the ServiceAccount plugin, which envtest switches off
// and every real API server has on.
func StockAdmission(e *envtest.Environment) {
	e.ControlPlane.GetAPIServer().Configure().Disable("disable-admission-plugins")
}

func start(env *Environment, options ...Option) (stop func() error, err error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	assets, err := assetsDir(root, os.Getenv(assetsVariable))
	if err != nil {
		return nil, err
	}
	scheme := NewScheme()
	testEnv := &envtest.Environment{
		Scheme:                   scheme,
		BinaryAssetsDirectory:    assets,
		CRDDirectoryPaths:        []string{filepath.Join(root, "config", "crd", "bases")},
		ErrorIfCRDPathMissing:    true,
		CRDInstallOptions:        envtest.CRDInstallOptions{MaxTime: startTimeout},
		ControlPlaneStartTimeout: startTimeout,
		ControlPlaneStopTimeout:  startTimeout,
	}
	for _, option := range options {
		option(testEnv)
	}
	cfg, err := testEnv.Start()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("failed to start kube-apiserver and etcd from %s: %w", assets, err), testEnv.Stop())
	}
	// Tests measure what the code does, not what client-side throttling makes of it.
	cfg.QPS, cfg.Burst = -1, -1
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("failed to create a client: %w", err), testEnv.Stop())
	}
	dir, err := os.MkdirTemp("", "keelson-test-")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("failed to make a directory for the kubeconfig: %w", err), testEnv.Stop())
	}
	stop = func() error { return errors.Join(testEnv.Stop(), os.RemoveAll(dir)) }
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, testEnv.KubeConfig, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("failed to write the kubeconfig: %w", err), stop())
	}
	*env = Environment{Config: cfg, Client: c, Scheme: scheme, Kubeconfig: kubeconfig, BinDir: assets}
	return stop, nil
}

// NewScheme returns a scheme with the stock kinds and Keelson's.
func NewScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(keelsonv1.AddToScheme(scheme))
	utilruntime.Must(appsv1.AddToScheme(scheme))
	utilruntime.Must(batchv1.AddToScheme(scheme))
	utilruntime.Must(autoscalingv2.AddToScheme(scheme))
	utilruntime.Must(policyv1.AddToScheme(scheme))
	utilruntime.Must(discoveryv1.AddToScheme(scheme))
	utilruntime.Must(networkingv1.AddToScheme(scheme))
	return scheme
}

// Namespace creates a namespace for one test, with the account that Pods have by default,
// and returns its name. Nothing deletes namespaces in this environment; a fresh one per
// test is what keeps tests apart.
func (e *Environment) Namespace(t testing.TB) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := e.Client.Create(t.Context(), ns); err != nil {
		t.Fatalf("failed to create a namespace: %v", err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "default"}}
	if err := e.Client.Create(t.Context(), account); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatalf("failed to create the default account: %v", err)
	}
	return ns.Name
}

// assetsDir finds the directory with the control plane's programs: the one that
// override names, else bin/k8s below root.
func assetsDir(root, override string) (string, error) {
	dir, origin := override, assetsVariable
	if dir == "" {
		dir, origin = filepath.Join(root, "bin", "k8s"), "the default"
	}
	for _, program := range []string{"etcd", "kube-apiserver", "kubectl"} {
		_, err := os.Stat(filepath.Join(dir, program))
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s is missing in %s (%s): build it with `make k8s`, or set %s to a directory that has it", program, dir, origin, assetsVariable)
		}
		if err != nil {
			return "", fmt.Errorf("failed to look for the control plane's programs: %w", err)
		}
	}
	return dir, nil
}

// moduleRoot walks up from the working directory, which for a test is the directory
// of its package, to the one that holds go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("failed to find the working directory: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory: run the tests inside the module")
		}
		dir = parent
	}
}
