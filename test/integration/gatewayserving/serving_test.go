// Package gatewayserving tests the served gateway against a real API server: it runs
// under its own least-privileged account, and its callers are service accounts with
// stock Roles.
package gatewayserving

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/cluster/pki"
	"github.com/keelson-dev/keelson/config"
	"github.com/keelson-dev/keelson/gateway/server"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

// front is a served gateway, and what its clients need.
type front struct {
	t         testing.TB
	admin     *kubernetes.Clientset // of the API server
	url, ca   string
	namespace string
}

func start(t testing.TB) *front {
	t.Helper()
	admin, err := kubernetes.NewForConfig(testEnv.Config)
	if err != nil {
		t.Fatal(err)
	}
	install(t)
	dir := t.TempDir()
	store := pki.NewStore(dir, clock.RealClock{})
	if _, err := store.Ensure([]string{"ca"}, nil, []pki.Leaf{{
		Name: "serving", Authority: "ca", User: "gateway", Usage: pki.Server, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
	}}); err != nil {
		t.Fatal(err)
	}
	f := &front{t: t, admin: admin, ca: store.AuthorityFile("ca"), namespace: testEnv.Namespace(t)}
	o := server.NewOptions()
	o.Serving = server.Serving{BindAddress: "127.0.0.1", Port: env.FreePort(t), CertFile: store.LeafFile("serving"), PrivateKeyFile: store.LeafFile("serving")}
	o.Authentication.ClientCAFile = f.ca
	o.HealthBindAddress, o.MetricsBindAddress = "0", "0"
	o.Kubeconfig = filepath.Join(dir, "kubeconfig")
	f.url = fmt.Sprintf("https://127.0.0.1:%d", o.Serving.Port)
	f.writeKubeconfig(o.Kubeconfig, f.token(keelsonv1.SystemNamespace, "keelson-gateway"))
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, *o) }()
	t.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			t.Errorf("the gateway ended: %v", err)
		}
	})
	env.Eventually(t, func() string {
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "https://"))
		if err != nil {
			return err.Error()
		}
		conn.Close()
		return ""
	})
	return f
}

// install puts in what an installation has for gateways; doing it again changes nothing.
func install(t testing.TB) {
	t.Helper()
	objects, err := config.Objects(config.Namespaces, config.GatewayRBAC)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if err := testEnv.Client.Create(t.Context(), object); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
}

func (f *front) writeKubeconfig(path, token string) {
	f.t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://" + strings.TrimPrefix(testEnv.Config.Host, "https://"), CertificateAuthorityData: testEnv.Config.CAData}
	c.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: token}
	c.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	c.CurrentContext = "x"
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		f.t.Fatal(err)
	}
}

func (f *front) token(namespace, account string, audiences ...string) string {
	f.t.Helper()
	r, err := f.admin.CoreV1().ServiceAccounts(namespace).CreateToken(f.t.Context(), account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}, metav1.CreateOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Status.Token
}

// account makes a service account that may do what rules say in the namespace.
func (f *front) account(name string, rules ...rbacv1.PolicyRule) {
	f.t.Helper()
	ctx := f.t.Context()
	meta := metav1.ObjectMeta{Name: name, Namespace: f.namespace}
	_, err := f.admin.CoreV1().ServiceAccounts(f.namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
	if err == nil {
		_, err = f.admin.RbacV1().Roles(f.namespace).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	}
	if err == nil {
		_, err = f.admin.RbacV1().RoleBindings(f.namespace).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: f.namespace}},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// client speaks with the gateway, with a token and whom to impersonate.
func (f *front) client(token string, as rest.ImpersonationConfig) *kubernetes.Clientset {
	f.t.Helper()
	c, err := kubernetes.NewForConfig(&rest.Config{Host: f.url, BearerToken: token, Impersonate: as, QPS: -1, TLSClientConfig: rest.TLSClientConfig{CAFile: f.ca}})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func rule(group, resource string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
}

func TestAStockRoleIsEnoughAndNeeded(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	f.account("editor", rule("", "pods", "get", "list", "create", "delete"), rule("", "configmaps", "list"))
	f.account("stored", rule("core.keelson.dev", "pods", "list"))
	editor := f.client(f.token(f.namespace, "editor"), rest.ImpersonationConfig{}).CoreV1()
	if _, err := editor.Pods(f.namespace).Create(ctx, pod("p"), metav1.CreateOptions{}); err != nil {
		t.Errorf("create with the right to it: %v", err)
	}
	if list, err := editor.Pods(f.namespace).List(ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 1 {
		t.Errorf("list with the right to it: %v, %v", list, err)
	}
	if _, err := editor.ConfigMaps(f.namespace).List(ctx, metav1.ListOptions{}); err != nil {
		t.Errorf("list what is passed on, with the right to it: %v", err)
	}
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"a verb that is not granted": {
			second(editor.Pods(f.namespace).UpdateStatus(ctx, pod("p"), metav1.UpdateOptions{})),
			`pods "p" is forbidden: User "system:serviceaccount:` + f.namespace + `:editor" cannot update resource "pods/status" in API group "" in the namespace "` + f.namespace + `"`,
		},
		"another kind": {
			second(editor.Services(f.namespace).List(ctx, metav1.ListOptions{})),
			`services is forbidden: User "system:serviceaccount:` + f.namespace + `:editor" cannot list resource "services" in API group "" in the namespace "` + f.namespace + `"`,
		},
		"another namespace": {second(editor.Pods("default").List(ctx, metav1.ListOptions{})), `cannot list resource "pods" in API group "" in the namespace "default"`},
		"all namespaces":    {second(editor.Pods("").List(ctx, metav1.ListOptions{})), `cannot list resource "pods" in API group "" at the cluster scope`},
		"what is passed on": {second(editor.Secrets(f.namespace).List(ctx, metav1.ListOptions{})), `cannot list resource "secrets" in API group ""`},
		"a right on the stored name": {
			second(f.client(f.token(f.namespace, "stored"), rest.ImpersonationConfig{}).CoreV1().Pods(f.namespace).List(ctx, metav1.ListOptions{})),
			`cannot list resource "pods" in API group ""`,
		},
	} {
		if !apierrors.IsForbidden(tt.err) || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: %v, want 403 with %s", name, tt.err, tt.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestARightThatIsGrantedCountsAtOnce(t *testing.T) {
	f := start(t)
	f.account("late")
	late := f.client(f.token(f.namespace, "late"), rest.ImpersonationConfig{}).CoreV1()
	if _, err := late.Pods(f.namespace).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Fatalf("before: %v", err)
	}
	f.account("late2", rule("", "pods", "list"))
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "late-too", Namespace: f.namespace}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "late2"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "late", Namespace: f.namespace}},
	}
	if _, err := f.admin.RbacV1().RoleBindings(f.namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	env.Eventually(t, func() string { // the API server's own cache of roles
		if _, err := late.Pods(f.namespace).List(t.Context(), metav1.ListOptions{}); err != nil {
			return err.Error()
		}
		return ""
	})
}

func TestTokensForOthersAreRefused(t *testing.T) {
	f := start(t)
	f.account("a", rule("", "pods", "list"))
	for name, token := range map[string]string{
		"another audience": f.token(f.namespace, "a", "vault"), "no token at all": "", "an invented one": "abc",
	} {
		if _, err := f.client(token, rest.ImpersonationConfig{}).CoreV1().Pods(f.namespace).List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
			t.Errorf("%s: %v, want 401", name, err)
		}
	}
}

func TestImpersonationTakesARightToIt(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	f.account("reader", rule("", "pods", "list"))
	f.account("actor", rule("", "serviceaccounts", "impersonate"))
	f.account("nobody", rule("", "pods", "list"))
	as := rest.ImpersonationConfig{UserName: "system:serviceaccount:" + f.namespace + ":reader"}
	actor := f.client(f.token(f.namespace, "actor"), as)
	if _, err := actor.CoreV1().Pods(f.namespace).List(ctx, metav1.ListOptions{}); err != nil {
		t.Errorf("one who may act as the reader: %v", err)
	}
	if _, err := actor.CoreV1().ConfigMaps(f.namespace).List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), ":reader") {
		t.Errorf("what the reader may not: %v, want 403 for the reader", err)
	}
	if _, err := f.client(f.token(f.namespace, "nobody"), as).CoreV1().Pods(f.namespace).List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "impersonate") {
		t.Errorf("one who may not: %v, want 403", err)
	}
	root := rest.ImpersonationConfig{UserName: "root", Groups: []string{"system:masters"}}
	if _, err := f.client(f.token(f.namespace, "actor"), root).CoreV1().Pods(f.namespace).List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("acting as the administrator: %v, want 403", err)
	}
}

func TestApplyNeedsTheRightToCreateWhatIsNotThere(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	f.account("patcher", rule("", "pods", "get", "patch"))
	f.account("creator", rule("", "pods", "get", "patch", "create"))
	apply := func(account, name string) error {
		p := applycorev1.Pod(name, f.namespace).WithLabels(map[string]string{"by": account}).
			WithSpec(applycorev1.PodSpec().WithContainers(applycorev1.Container().WithName("c").WithImage("i")))
		_, err := f.client(f.token(f.namespace, account), rest.ImpersonationConfig{}).CoreV1().Pods(f.namespace).Apply(ctx, p, metav1.ApplyOptions{FieldManager: "m", Force: true})
		return err
	}
	if err := apply("patcher", "p"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `cannot create resource "pods" in API group ""`) {
		t.Errorf("without the right to create: %v, want 403 in upstream's words", err)
	}
	if err := apply("creator", "p"); err != nil {
		t.Errorf("with it: %v", err)
	}
	if err := apply("patcher", "p"); err != nil {
		t.Errorf("what is there already: %v", err)
	}
}
