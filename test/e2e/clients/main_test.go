// Package clients lets programs that others wrote work on a cluster through the
// gateway: Go, Python and JavaScript libraries, controller-runtime, Helm 3 and 4, and
// kubectl of two releases. They know nothing of Keelson; a test here that mentions one
// of its names is wrong, but for the one of `keelson convert`. Each test says what its client would see in any Kubernetes.
//
// The cluster is one that TestMain starts on a throw-away machine. To try the tests
// themselves on another cluster, set KEELSON_CLIENTS_KUBECONFIG to the credentials of
// its administrator and KEELSON_CLIENTS_REGISTRY to the address of a registry with the
// test images (test/env/cluster) that its nodes can pull from.
package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	envcluster "github.com/keelson-dev/keelson/test/env/cluster"
	"github.com/keelson-dev/keelson/test/env/machine"
)

const (
	kubeconfigVariable = "KEELSON_CLIENTS_KUBECONFIG"
	registryVariable   = "KEELSON_CLIENTS_REGISTRY"

	// patience is how long one step of a client may take: generous, nothing here is a
	// measurement.
	patience = 2 * time.Minute
	// pollInterval is how often a condition is looked at again.
	pollInterval = 100 * time.Millisecond
)

// setup is what every test of this package works with; TestMain fills it in once.
var setup struct {
	// kubeconfig is the administrator's view of a plain Kubernetes API.
	kubeconfig string
	// bin holds the clients, kubectl is the stock one of our own release.
	bin, kubectl string
	// direct is the view past the gateway, keelson the program: of our own cluster.
	direct, keelson string
	// busybox and testserver are the names of the test images.
	busybox, testserver string
}

func TestMain(m *testing.M) {
	if kubeconfig := os.Getenv(kubeconfigVariable); kubeconfig != "" {
		os.Exit(runElsewhere(m, kubeconfig))
	}
	os.Exit(machine.Main(func() int { return runAll(m) }))
}

func runElsewhere(m *testing.M, kubeconfig string) int {
	registry := os.Getenv(registryVariable)
	if registry == "" {
		fmt.Fprintf(os.Stderr, "clients: %s is set, %s is not\n", kubeconfigVariable, registryVariable)
		return 1
	}
	if err := prepare(kubeconfig, func(image string) string { return registry + "/" + image }); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		return 1
	}
	return m.Run()
}

// runAll is up, the tests, down, and the search for what was left behind.
func runAll(m *testing.M) (code int) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		return 1
	}
	c, err := envcluster.New(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		return 1
	}
	defer c.Close()
	if err := prepare(c.PlainKubeconfig(), c.Image); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		return 1
	}
	setup.direct, setup.keelson = c.Kubeconfig(), filepath.Join(root, "bin/keelson")
	if _, err := c.Up(); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		c.DumpLogs(os.Stderr)
		return 1
	}
	code = m.Run()
	if err := c.CheckLogs(); err != nil {
		fmt.Fprintln(os.Stderr, "clients: in the logs:", err)
		code = 1
	}
	if code != 0 {
		c.DumpLogs(os.Stderr)
	}
	if err := errors.Join(c.Down(), c.CheckLeaks()); err != nil {
		fmt.Fprintln(os.Stderr, "clients: after keelson down:", err)
		code = 1
	}
	return code
}

// prepare finds the programs before anything is started.
func prepare(kubeconfig string, image func(string) string) error {
	root, err := filepath.Abs("../../..")
	if err != nil {
		return err
	}
	setup.kubeconfig = kubeconfig
	setup.bin = filepath.Join(root, "bin/clients")
	setup.kubectl = filepath.Join(envcluster.AssetsDir(root), "kubectl")
	setup.busybox, setup.testserver = image(envcluster.BusyboxImage), image(envcluster.TestserverImage)
	for _, file := range []string{setup.kubectl, program("helm3"), program("helm4"), program("kubectl-1.32"), program("javascript/node_modules")} {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("%w: run `make k8s clients` first", err)
		}
	}
	return nil
}

// program is the path of a program that hack/build-clients.sh got.
func program(name string) string { return filepath.Join(setup.bin, name) }

// credentials returns the administrator's credentials, without the client's own throttle.
func credentials(t *testing.T) *rest.Config {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", setup.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	return cfg
}

// clientset is client-go's, in JSON; protobuf tests ask for theirs.
func clientset(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(credentials(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// namespace makes one that ends with the test and returns its name. It waits for the
// account without which nothing is admitted.
func namespace(t *testing.T) string {
	t.Helper()
	c := clientset(t)
	ns, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "clients-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if t.Failed() {
			explain(ctx, t, ns.Name)
		}
		if err := c.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete namespace: %v", err)
		}
	})
	eventually(t, "the default account", func() error {
		_, err := c.CoreV1().ServiceAccounts(ns.Name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

// explain shows what is in a namespace whose test failed.
func explain(ctx context.Context, t *testing.T, namespace string) {
	for _, args := range [][]string{{"get", "pods,rc,svc,cm", "-o", "wide"}, {"get", "events", "--sort-by=.metadata.creationTimestamp"}} {
		out, _ := run(ctx, "", setup.kubectl, append([]string{"-n", namespace}, args...)...)
		t.Logf("kubectl %s:\n%s", strings.Join(args, " "), out)
	}
}

// run starts a program with the cluster's credentials and returns all that it printed.
func run(ctx context.Context, stdin, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+setup.kubeconfig)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mustRun is run; a failure, or taking too long, ends the test.
func mustRun(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := run(ctx, stdin, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return out
}

// eventually waits until check has no complaint.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(pollInterval) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still after %s: %v", what, patience, err)
		}
	}
}

// isRunning complains unless a Pod was read that runs.
func isRunning(pod *corev1.Pod, err error) error {
	if err == nil && pod.Status.Phase != corev1.PodRunning {
		err = fmt.Errorf("Pod %s is %s", pod.Name, pod.Status.Phase)
	}
	return err
}

// isGone complains unless reading an object failed because it is not there.
func isGone(err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err == nil:
		return errors.New("it is there")
	default:
		return err
	}
}

// contains complains of the parts that text lacks.
func contains(text string, parts ...string) error {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return fmt.Errorf("%q lacks %q", text, part)
		}
	}
	return nil
}

// shellPod runs a command of busybox's shell and has a label by its name.
func shellPod(name, command string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(1)),
			Containers:                    []corev1.Container{{Name: "main", Image: setup.busybox, Command: []string{"sh", "-c", command}}},
		},
	}
}

// webController answers on port 8080.
func webController(name string, replicas int32) *corev1.ReplicationController {
	labels := map[string]string{"app": name}
	return &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ReplicationControllerSpec{
			Replicas: new(replicas), Selector: labels,
			Template: &corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: new(int64(1)),
					Containers:                    []corev1.Container{{Name: "main", Image: setup.testserver, Args: []string{"http", ":8080"}}},
				},
			},
		},
	}
}
