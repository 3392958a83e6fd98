package updown

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/config"
	"github.com/keelson-dev/keelson/config/webhook"
	"github.com/keelson-dev/keelson/test/env/machine"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

const (
	hostName = "core-01"
	// apiServer is where nobody listens before the agent has started it.
	apiServer  = machine.NodeIP + ":6443"
	webhookURL = "https://localhost:9443"
)

// apiServerPod are etcd and the API server. MACHINE is the folder with their files.
const apiServerPod = `
apiVersion: v1
kind: Pod
metadata: {name: kubernetes, namespace: kube-system, labels: {tier: control-plane}}
spec:
  hostNetwork: true
  containers:
  - name: etcd
    image: ETCD
    command: [/etcd, --data-dir=/var/etcd, --listen-client-urls=http://127.0.0.1:2379, --advertise-client-urls=http://127.0.0.1:2379,
      --listen-peer-urls=http://127.0.0.1:2380, --unsafe-no-fsync, --log-level=warn]
    volumeMounts: [{name: etcd, mountPath: /var/etcd}]
  - name: apiserver
    image: APISERVER
    command: [/kube-apiserver, --etcd-servers=http://127.0.0.1:2379, --bind-address=` + machine.NodeIP + `, --secure-port=6443, --cert-dir=/run/certificates,
      --token-auth-file=/etc/kubernetes/tokens.csv, --authorization-mode=RBAC, --endpoint-reconciler-type=none, --allow-privileged=true,
      --service-account-issuer=https://kubernetes.default.svc.cluster.local, --service-account-signing-key-file=/etc/kubernetes/accounts.pem,
      --service-account-key-file=/etc/kubernetes/accounts.pem, --service-cluster-ip-range=198.19.255.0/24]
    volumeMounts: [{name: machine, mountPath: /etc/kubernetes, readOnly: true}, {name: certificates, mountPath: /run/certificates}]
  volumes:
  - {name: etcd, emptyDir: {}}
  - {name: certificates, emptyDir: {}}
  - {name: machine, hostPath: {path: MACHINE, type: Directory}}
`

// managerPod is what acts on what the API server keeps.
const managerPod = `
apiVersion: v1
kind: Pod
metadata: {name: manager, namespace: kube-system, labels: {tier: control-plane}}
spec:
  hostNetwork: true
  containers:
  - name: manager
    image: MANAGER
    command: [/keelson-manager, --kubeconfig=/etc/kubernetes/manager.kubeconfig, --mode=standalone, --webhook-bind-address=127.0.0.1, --webhook-url=` + webhookURL + `,
      "--controllers=*,-rootca"]
    volumeMounts: [{name: machine, mountPath: /etc/kubernetes, readOnly: true}]
  volumes:
  - {name: machine, hostPath: {path: MACHINE, type: Directory}}
`

// host is a machine whose agent starts the control plane that it then registers with.
type host struct {
	t         *testing.T
	root, dir string
	flags     []string
}

// TestAgentRunsTheControlPlane puts manifests of etcd, API server and manager into the
// agent's folder, as the manifests of a cluster that hosts itself.
func TestAgentRunsTheControlPlane(t *testing.T) {
	root, err := filepath.Abs("../../..")
	must(t, err)
	// Not t.TempDir: paths of sockets must be short.
	dir, err := os.MkdirTemp("", "host")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	h := &host{t: t, root: root, dir: dir}
	// On the disk, because the machine keeps /var/lib in memory.
	startContainerdAt(t, h.file("containerd.sock"), "--root", h.file("containerd"), "--state", h.file("state"))
	for _, folder := range []string{"manifests", "kubernetes"} {
		must(t, os.Mkdir(h.file(folder), 0o700))
	}
	h.writeIdentities("admin system:masters", "manager "+keelsonv1.ManagerUser, "node "+keelsonv1.NodeUserPrefix+hostName+" "+keelsonv1.NodesGroup)
	images := h.pushControlPlane()
	h.flags = []string{"--kubeconfig=" + h.file("kubernetes/node.kubeconfig"), "--node-name=" + hostName, "--node-ip=" + machine.NodeIP, "--containerd-address=" + h.file("containerd.sock"),
		"--root-dir=" + h.file("root"), "--pod-manifest-path=" + h.file("manifests"), "--eviction-hard=memory.available<10Mi", "--image-gc-high-threshold=100"}
	h.runAgent()

	h.manifest("kubernetes.yaml", images.Replace(apiServerPod))
	eventually(t, "the API server answers", func() error {
		_, err := h.kubectl("", "get", "--raw", "/readyz")
		return err
	})
	h.install()
	h.manifest("manager.yaml", images.Replace(managerPod))
	eventually(t, "the Node is ready", func() error {
		out, err := h.kubectl("", "get", "kno", hostName)
		if err == nil {
			err = wantIn(out, " Ready ")
		}
		return err
	})
	eventually(t, "the API shows the Pods of its own", func() error {
		out, err := h.kubectl("", "get", "kpo", "-n", "kube-system", "-l", "tier=control-plane")
		for _, name := range []string{"kubernetes-", "manager-"} {
			if err == nil && !strings.Contains(out, name+hostName) {
				err = errors.New(out)
			}
		}
		return err
	})
	eventually(t, "a Pod is admitted, scheduled and done", func() error {
		out, err := h.kubectl(images.Replace(`{apiVersion: core.keelson.dev/v1, kind: Pod, metadata: {name: once, namespace: default},
			spec: {restartPolicy: Never, automountServiceAccountToken: false, containers: [{name: c, image: BUSYBOX, command: [sh, -c, "exit 0"]}]}}`), "apply", "-f", "-")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if out, err = h.kubectl("", "get", "kpo", "once", "-n", "default", "-o", "jsonpath={.status.phase}"); err == nil && out != "Succeeded" {
			err = fmt.Errorf("phase %q", out)
		}
		return err
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) file(name string) string { return filepath.Join(h.dir, name) }

// manifest puts a file into the agent's folder, whole at once.
func (h *host) manifest(name, content string) {
	h.t.Helper()
	must(h.t, os.WriteFile(h.file("new"), []byte(content), 0o600))
	must(h.t, os.Rename(h.file("new"), h.file("manifests/"+name)))
}

// writeIdentities makes a token and a kubeconfig for each "NAME USER [GROUP]", and the
// key of service accounts. A user of system:masters has that group.
func (h *host) writeIdentities(identities ...string) {
	h.t.Helper()
	var tokens strings.Builder
	for _, identity := range identities {
		f := append(strings.Fields(identity), "")
		token, groups := rand.Text(), f[2]
		if f[1] == "system:masters" {
			groups = f[1]
		}
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", token, f[1], f[1], groups)
		must(h.t, os.WriteFile(h.file("kubernetes/"+f[0]+".kubeconfig"), fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: c,
clusters: [{name: c, cluster: {server: "https://%s", insecure-skip-tls-verify: true}}], users: [{name: u, user: {token: %s}}], contexts: [{name: c, context: {cluster: c, user: u}}]}
`, apiServer, token), 0o600))
	}
	must(h.t, os.WriteFile(h.file("kubernetes/tokens.csv"), []byte(tokens.String()), 0o600))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(h.t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	must(h.t, os.WriteFile(h.file("kubernetes/accounts.pem"), text, 0o600))
}

// pushControlPlane serves an image of each program, and returns what puts their names
// into manifests.
func (h *host) pushControlPlane() *strings.Replacer {
	h.t.Helper()
	registry, err := imagebuild.StartRegistry("127.0.0.1:0", nil)
	must(h.t, err)
	h.t.Cleanup(func() { _ = registry.Close() })
	busybox, err := imagebuild.Busybox()
	must(h.t, err)
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join(h.root, "bin/k8s")
	}
	program := func(path string) imagebuild.Spec {
		return imagebuild.Spec{Files: map[string]imagebuild.File{"/" + filepath.Base(path): {HostPath: path}}, Dirs: []string{"/tmp"}, Config: v1.Config{}}
	}
	words := []string{"MACHINE", h.file("kubernetes")}
	for word, spec := range map[string]imagebuild.Spec{
		"ETCD": program(filepath.Join(assets, "etcd")), "APISERVER": program(filepath.Join(assets, "kube-apiserver")),
		"MANAGER": program(filepath.Join(h.root, "bin/keelson-manager")), "BUSYBOX": busybox,
	} {
		image, err := imagebuild.Build(spec, runtime.GOARCH)
		must(h.t, err)
		ref, _, err := registry.Push(h.t.Context(), image, "control-plane/"+strings.ToLower(word)+":v1")
		must(h.t, err)
		words = append(words, word, ref)
	}
	return strings.NewReplacer(words...)
}

// runAgent starts the agent, which ends with the test, and everything that it runs.
func (h *host) runAgent() {
	h.t.Helper()
	var log bytes.Buffer
	program := filepath.Join(h.root, "bin/keelson-node")
	agent := exec.Command(program, h.flags...)
	agent.Stdout, agent.Stderr = &log, &log
	must(h.t, agent.Start())
	h.t.Cleanup(func() {
		_ = agent.Process.Signal(syscall.SIGTERM) // it may have ended, which Wait tells
		err := agent.Wait()
		if h.t.Failed() || err != nil {
			h.t.Logf("keelson-node (%v) said:\n%s", err, log.String())
			h.logControlPlane()
		}
		if out, err := exec.Command(program, append([]string{"cleanup"}, h.flags...)...).CombinedOutput(); err != nil {
			h.t.Errorf("cleanup: %v\n%s", err, out)
		}
		for _, name := range []string{"etcd", "kube-apiserver", "keelson-manager"} {
			if pids := processesOf(h.t, name); len(pids) > 0 {
				h.t.Errorf("after the cleanup %s runs as %v", name, pids)
			}
		}
	})
}

// logControlPlane shows the ends of the logs of the Pods.
func (h *host) logControlPlane() {
	files, _ := filepath.Glob("/var/log/pods/*/*/*.log")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		h.t.Logf("==> %s\n%s", file, text[max(0, len(text)-3000):])
	}
}

func (h *host) kubectl(stdin string, args ...string) (string, error) {
	c := cluster{root: h.root}
	return c.kubectl(stdin, append([]string{"--kubeconfig", h.file("kubernetes/admin.kubeconfig")}, args...)...)
}

// install applies what Keelson needs in an API server.
func (h *host) install() {
	h.t.Helper()
	apply := func(objects []*unstructured.Unstructured, err error) {
		h.t.Helper()
		must(h.t, err)
		var text strings.Builder
		for _, object := range objects {
			one, err := yaml.Marshal(object)
			must(h.t, err)
			text.WriteString("---\n" + string(one))
		}
		if out, err := h.kubectl(text.String(), "apply", "--server-side", "-f", "-"); err != nil {
			h.t.Fatalf("apply: %v\n%s", err, out)
		}
	}
	for _, set := range config.Standalone() {
		apply(config.Objects(set))
		if set == config.CRDs {
			if out, err := h.kubectl("", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); err != nil {
				h.t.Fatalf("wait for the kinds: %v\n%s", err, out)
			}
		}
	}
	apply(webhook.ForURL(webhookURL))
}
