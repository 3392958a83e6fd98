package hygiene_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/config"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

func TestClusterRolesAreAggregated(t *testing.T) {
	start(t)
	label := map[string]string{"example.com/part-of": "combined"}
	part := func(name, verb string) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: label},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{verb}}},
		}
	}
	combined := create(t, testEnv.Client, &rbacv1.ClusterRole{
		ObjectMeta:      metav1.ObjectMeta{Name: "combined"},
		AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: label}}},
	})
	t.Cleanup(func() { remove(t, combined) })
	has := func(want ...string) {
		t.Helper()
		env.Eventually(t, func() string {
			get(t, combined)
			var verbs []string
			for _, rule := range combined.Rules {
				verbs = append(verbs, rule.Verbs...)
			}
			return cmp.Diff(want, verbs)
		})
	}
	second := create(t, testEnv.Client, part("part-2", "list"))
	has("list")
	first := create(t, testEnv.Client, part("part-1", "get"))
	has("get", "list")
	first.Rules[0].Verbs = []string{"watch"}
	if err := testEnv.Client.Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	has("watch", "list")
	remove(t, first)
	has("list")
	second.Labels = nil
	if err := testEnv.Client.Update(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	has()
	remove(t, second)
}

func TestStorageObjectsGoWhenNobodyUsesThem(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	class := create(t, testEnv.Client, &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: "gold"}, DriverName: "csi.example.com", Parameters: map[string]string{"iops": "100"}})
	volume := create(t, testEnv.Client, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "volume"},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			VolumeAttributesClassName: &class.Name,
			PersistentVolumeSource:    corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "csi.example.com", VolumeHandle: "1"}},
		},
	})
	claim := create(t, testEnv.Client, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "claim"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	})
	// Classes get their finalizer from the controller, the others from the API server.
	env.Eventually(t, func() string {
		for _, o := range []client.Object{class, volume, claim} {
			if get(t, o); len(o.GetFinalizers()) != 1 {
				return fmt.Sprintf("%s is not protected", o.GetName())
			}
		}
		return ""
	})
	volume.Status.Phase = corev1.VolumeBound
	if err := testEnv.Client.Status().Update(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	pod := builders.MakePod("user").Namespace(ns).Node("n1").Obj()
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name}}}}
	create(t, testEnv.Client, pod)
	for _, o := range []client.Object{class, volume, claim} {
		remove(t, o)
	}
	env.Always(t, 2*time.Second, func() string {
		for _, o := range []client.Object{class, volume, claim} {
			if !get(t, o) {
				return o.GetName() + " is gone although it is used"
			}
		}
		return ""
	})
	remove(t, pod)
	gone(t, claim)
	get(t, volume)
	volume.Status.Phase = corev1.VolumeReleased
	if err := testEnv.Client.Status().Update(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	gone(t, volume)
	gone(t, class)
}

func TestTokenSecretsAreFilledAndGoWithTheirAccount(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	account := create(t, testEnv.Client, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "robot"}})
	secret := func(name string) *corev1.Secret {
		return create(t, testEnv.Client, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}},
			Type:       corev1.SecretTypeServiceAccountToken,
		})
	}
	token := secret("robot-token")
	env.Eventually(t, func() string {
		if get(t, token); len(token.Data[corev1.ServiceAccountTokenKey]) == 0 {
			return "no token yet"
		}
		return ""
	})
	if token.Annotations[corev1.ServiceAccountUIDKey] != string(account.UID) || string(token.Data["namespace"]) != ns || string(token.Data["ca.crt"]) != "bundle" {
		t.Errorf("filled with %v and %v", token.Annotations, token.Data)
	}
	cfg := rest.AnonymousClientConfig(testEnv.Config)
	cfg.BearerToken = string(token.Data[corev1.ServiceAccountTokenKey])
	robot, err := client.New(cfg, client.Options{Scheme: testEnv.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	who := create(t, robot, &authenticationv1.SelfSubjectReview{})
	if want := "system:serviceaccount:" + ns + ":robot"; who.Status.UserInfo.Username != want {
		t.Errorf("the token is %s's, want %s", who.Status.UserInfo.Username, want)
	}

	get(t, account)
	account.Secrets = []corev1.ObjectReference{{Name: "robot-token"}, {Name: "other"}}
	if err := testEnv.Client.Update(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	other := secret("other")
	remove(t, token)
	env.Eventually(t, func() string {
		get(t, account)
		return cmp.Diff([]corev1.ObjectReference{{Name: "other"}}, account.Secrets)
	})
	remove(t, account)
	gone(t, other)
}

func TestBootstrapTokensExpire(t *testing.T) {
	start(t)
	token := func(name, expiration string) *corev1.Secret {
		return create(t, testEnv.Client, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name}, Type: "bootstrap.kubernetes.io/token",
			StringData: map[string]string{"expiration": expiration},
		})
	}
	late := token("bootstrap-token-000001", time.Now().Add(time.Hour).Format(time.RFC3339))
	over := token("bootstrap-token-000002", "2020-01-01T00:00:00Z")
	soon := token("bootstrap-token-000003", time.Now().Add(2*time.Second).Format(time.RFC3339))
	gone(t, over)
	gone(t, soon)
	if !get(t, late) {
		t.Error("deleted a token that is good for an hour")
	}
}

// agent is the client of a node's agent.
func agent(t *testing.T, node string) client.Client {
	t.Helper()
	cfg := rest.CopyConfig(testEnv.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: keelsonv1.NodeUserPrefix + node, Groups: []string{keelsonv1.NodesGroup, "system:authenticated"}}
	c, err := client.New(cfg, client.Options{Scheme: testEnv.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// request makes the CertificateSigningRequest of a node.
func request(t *testing.T, node, signer string, dns ...string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: keelsonv1.NodeUserPrefix + node, Organization: []string{keelsonv1.NodesGroup}},
		DNSNames: dns,
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	usage := certificatesv1.UsageClientAuth
	if signer != "keelson.dev/node-client" {
		usage = certificatesv1.UsageServerAuth
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, usage},
		},
	}
}

func issued(t *testing.T, r *certificatesv1.CertificateSigningRequest) {
	t.Helper()
	env.Eventually(t, func() string {
		if get(t, r); len(r.Status.Certificate) == 0 {
			return fmt.Sprintf("no certificate: %v", r.Status.Conditions)
		}
		return ""
	})
	block, _ := pem.Decode(r.Status.Certificate)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
}

func TestNodesGetTheirCertificates(t *testing.T) {
	testEnv.Install(t, config.Namespaces, config.NodeRBAC)
	start(t)
	const clients, serving = "keelson.dev/node-client", "keelson.dev/node-serving"
	own := create(t, agent(t, "n1"), request(t, "n1", clients))
	others := create(t, agent(t, "n1"), request(t, "n2", clients))
	server := create(t, agent(t, "n1"), request(t, "n1", serving, "n1"))
	foreign := create(t, agent(t, "n1"), request(t, "n1", "example.com/signer", "n1"))
	issued(t, own)
	if got := own.Status.Conditions[0]; got.Reason != "AutoApproved" || got.Message != "Auto approving self node agent client certificate after SubjectAccessReview." {
		t.Errorf("approved with %s: %s", got.Reason, got.Message)
	}
	env.Always(t, 2*time.Second, func() string {
		for _, r := range []*certificatesv1.CertificateSigningRequest{others, server, foreign} {
			if get(t, r); len(r.Status.Conditions) > 0 || len(r.Status.Certificate) > 0 {
				return fmt.Sprintf("request of %s was answered: %v", r.Spec.SignerName, r.Status.Conditions)
			}
		}
		return ""
	})
	// A person says yes.
	server.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "ByHand"}}
	if err := testEnv.Client.SubResource("approval").Update(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	issued(t, server)
	// A person says yes to what cannot be.
	bad := request(t, "n1", clients, "n1")
	create(t, testEnv.Client, bad)
	bad.Status.Conditions = server.Status.Conditions
	if err := testEnv.Client.SubResource("approval").Update(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	env.Eventually(t, func() string {
		get(t, bad)
		for _, c := range bad.Status.Conditions {
			if c.Type == certificatesv1.CertificateFailed && c.Reason == "SignerValidationFailure" && c.Message == "DNS subjectAltNames are not allowed" {
				return ""
			}
		}
		return fmt.Sprintf("did not fail: %v", bad.Status.Conditions)
	})
}

func TestNodesMayBeTrustedWithTheirNames(t *testing.T) {
	testEnv.Install(t, config.Namespaces, config.NodeRBAC)
	role := create(t, testEnv.Client, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "server"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests/selfnodeserver"}, Verbs: []string{"create"}}},
	})
	binding := create(t, testEnv.Client, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "server"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "server"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: keelsonv1.NodeUserPrefix + "n1"}},
	})
	t.Cleanup(func() { remove(t, binding); remove(t, role) })
	node := create(t, testEnv.Client, &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	t.Cleanup(func() { remove(t, node) })
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n1"}}
	if err := testEnv.Client.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	start(t)
	foreign := create(t, agent(t, "n1"), request(t, "n1", "keelson.dev/node-serving", "n1", "kubernetes.default.svc"))
	issued(t, create(t, agent(t, "n1"), request(t, "n1", "keelson.dev/node-serving", "n1")))
	if get(t, foreign); len(foreign.Status.Conditions) > 0 {
		t.Errorf("approved a name that is not the node's: %v", foreign.Status.Conditions)
	}
}
