package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// authority is a certificate that signs others, as PEM.
func authority(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// bundle is a ClusterTrustBundle with one certificate.
func bundle(name, certificate string) string {
	return fmt.Sprintf(`
apiVersion: certificates.k8s.io/v1
kind: ClusterTrustBundle
metadata: {name: %s}
spec:
  trustBundle: |
    %s
`, name, strings.ReplaceAll(strings.TrimSpace(certificate), "\n", "\n    "))
}

func TestTrustAnchorsFollowTheirBundle(t *testing.T) {
	s := newSpace(t)
	name := "e2e-" + s.Name
	t.Cleanup(func() {
		if out, err := kubectl(context.WithoutCancel(t.Context()), "", "delete", "clustertrustbundle", name, "--ignore-not-found"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	first, second := authority(t, "first"), authority(t, "second")
	volumes := fmt.Sprintf(`[{name: trust, projected: {sources: [{clusterTrustBundle: {name: %s, path: ca.crt}}]}}]`, name)
	s.apply(volumePod("truster", `cp /trust/ca.crt /first; cat /first; while cmp -s /first /trust/ca.crt; do sleep 0.1; done; cat /trust/ca.crt`,
		`[{name: trust, mountPath: /trust}]`, volumes))
	s.eventually(eventual, "the event FailedMount", func() error {
		out := s.run("get", "events", "--field-selector", "reason=FailedMount", "-o", "jsonpath={.items[*].message}")
		if want := fmt.Sprintf(`clustertrustbundle.certificates.k8s.io "%s" not found`, name); !strings.Contains(out, want) {
			return fmt.Errorf("events say %q, want %q", out, want)
		}
		return nil
	})
	s.apply(bundle(name, first))
	pod := s.phase("truster", corev1.PodRunning)
	s.eventually(eventual, "the first certificate", func() error {
		if got := logs(t, pod, "c0"); got != first {
			return fmt.Errorf("the Pod says %q", got)
		}
		return nil
	})
	s.apply(bundle(name, second))
	pod = s.phase("truster", corev1.PodSucceeded)
	if got := logs(t, pod, "c0"); got != first+second {
		t.Errorf("the Pod says %q, want both certificates", got)
	}
}

func TestImageAsVolume(t *testing.T) {
	s := newSpace(t)
	image := cluster.Image(busyboxImage)
	s.apply(volumePod("reader", `
ls /data/bin/busybox && cmp /bin/busybox /data/bin/busybox && echo same
cmp /bin/busybox /busybox && echo a path within
touch /data/new 2>&1
/data/bin/busybox true 2>/dev/null || echo not executable
`, `[{name: data, mountPath: /data}, {name: data, mountPath: /busybox, subPath: bin/busybox}]`,
		fmt.Sprintf(`[{name: data, image: {reference: %q, pullPolicy: IfNotPresent}}]`, image)))
	pod := s.phase("reader", corev1.PodSucceeded)
	const want = "/data/bin/busybox\nsame\na path within\ntouch: /data/new: Read-only file system\nnot executable\n"
	if got := logs(t, pod, "c0"); got != want {
		t.Errorf("the Pod says\n%s\nwant\n%s", got, want)
	}
	s.apply(volumePod("waiter", `true`, `[{name: data, mountPath: /data}]`,
		fmt.Sprintf(`[{name: data, image: {reference: %q, pullPolicy: Never}}]`, image+"-missing")))
	s.podWhen("waiter", "waiting for the image of its volume", func(pod *keelsonv1.Pod) error {
		statuses := pod.Status.ContainerStatuses
		if len(statuses) != 1 || statuses[0].State.Waiting == nil || statuses[0].State.Waiting.Reason != "ErrImageNeverPull" {
			return fmt.Errorf("container statuses %+v", statuses)
		}
		return nil
	})
}

func TestVariablesFromAFile(t *testing.T) {
	s := newSpace(t)
	image := cluster.Image(busyboxImage)
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: reader}
spec:
  restartPolicy: Never
  initContainers:
  - name: writer
    image: %s
    command: [sh, -c, "printf \"# made at the start\\nCOLOR='dark red' # a remark\\n\" > /config/env"]
    volumeMounts: [{name: config, mountPath: /config}]
  containers:
  - name: c0
    image: %[1]s
    command: [sh, -c, "echo $COLOR, ${SHAPE-none}"]
    env:
    - {name: COLOR, valueFrom: {fileKeyRef: {volumeName: config, path: env, key: COLOR}}}
    - {name: SHAPE, valueFrom: {fileKeyRef: {volumeName: config, path: env, key: SHAPE, optional: true}}}
  volumes: [{name: config, emptyDir: {}}]
`, image))
	pod := s.phase("reader", corev1.PodSucceeded)
	if got := logs(t, pod, "c0"); got != "dark red, none\n" {
		t.Errorf("the Pod says %q", got)
	}
}

func TestProfileOnANodeWithoutAppArmor(t *testing.T) {
	s := newSpace(t)
	s.apply(securePod("confined", "true", "{appArmorProfile: {type: RuntimeDefault}}", "{}"))
	pod := s.phase("confined", corev1.PodFailed)
	const want = "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"
	if pod.Status.Reason != "AppArmor" || pod.Status.Message != want {
		t.Errorf("reason %q, message %q, want AppArmor, %q", pod.Status.Reason, pod.Status.Message, want)
	}
	s.apply(securePod("unconfined", "echo runs", "{appArmorProfile: {type: Unconfined}}", "{seLinuxOptions: {level: \"s0\"}}"))
	if got := logs(t, s.phase("unconfined", corev1.PodSucceeded), "c0"); got != "runs\n" {
		t.Errorf("the Pod says %q", got)
	}
}
