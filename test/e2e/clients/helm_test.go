package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// release is one installation of testdata/chart.
type release struct {
	t         *testing.T
	helm      string
	namespace string
}

func (r *release) values(values ...string) []string {
	args := []string{"--set", "images.server=" + setup.testserver, "--set", "images.shell=" + setup.busybox}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	return args
}

func (r *release) run(args ...string) string {
	r.t.Helper()
	return mustRun(r.t, "", r.helm, append([]string{"--namespace", r.namespace}, args...)...)
}

// state complains unless the cluster has what the release should be.
func (r *release) state(replicas int32, greeting string) {
	r.t.Helper()
	c := clientset(r.t).CoreV1()
	rc, err := c.ReplicationControllers(r.namespace).Get(r.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	settings, err := c.ConfigMaps(r.namespace).Get(r.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	if *rc.Spec.Replicas != replicas || rc.Spec.Template.Spec.Containers[0].Env[0].Value != greeting || settings.Data["greeting"] != greeting {
		r.t.Errorf("%d replicas say %q, settings %v; want %d and %q", *rc.Spec.Replicas, rc.Spec.Template.Spec.Containers[0].Env[0].Value, settings.Data, replicas, greeting)
	}
	if rc.Labels["app.kubernetes.io/managed-by"] != "Helm" || rc.Annotations["meta.helm.sh/release-name"] != "web" {
		r.t.Errorf("labels %v, annotations %v", rc.Labels, rc.Annotations)
	}
	eventually(r.t, "the replicas to be ready", func() error {
		rc, err := c.ReplicationControllers(r.namespace).Get(r.t.Context(), "web", metav1.GetOptions{})
		if err == nil && rc.Status.ReadyReplicas != replicas {
			err = fmt.Errorf("%d are", rc.Status.ReadyReplicas)
		}
		return err
	})
}

// TestHelm: the life of a release, in both major versions.
func TestHelm(t *testing.T) {
	for _, version := range []string{"helm3", "helm4"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := &release{t: t, helm: program(version), namespace: namespace(t)}
			if err := contains(r.run("version"), "v"+strings.TrimPrefix(version, "helm")+"."); err != nil {
				t.Fatal(err)
			}
			out := r.run(append([]string{"install", "web", "testdata/chart", "--wait", "--timeout", "90s"}, r.values()...)...)
			if err := contains(out, "STATUS: deployed", "REVISION: 1", "web says hello."); err != nil {
				t.Error(err)
			}
			r.state(1, "hello")
			r.hookRan("web-prepare")

			if err := contains(r.run("test", "web", "--timeout", "60s"), "TEST SUITE:", "Succeeded"); err != nil {
				t.Error(err)
			}
			r.hookRan("web-test")

			r.run(append([]string{"upgrade", "web", "testdata/chart", "--wait", "--timeout", "90s"}, r.values("replicas=2", "greeting=salve")...)...)
			r.state(2, "salve")
			// A change that somebody made by hand stays unless the chart says otherwise.
			mustRun(t, "", setup.kubectl, "-n", r.namespace, "label", "rc/web", "by=hand")
			r.failedUpgrade()
			r.run("rollback", "web", "1", "--wait", "--timeout", "90s")
			r.state(1, "hello")
			rc, err := clientset(t).CoreV1().ReplicationControllers(r.namespace).Get(t.Context(), "web", metav1.GetOptions{})
			if err != nil || rc.Labels["by"] != "hand" {
				t.Errorf("labels %v, %v", rc.Labels, err)
			}
			r.history("superseded", "superseded", "failed", "deployed")
			if err := contains(r.run("get", "manifest", "web"), "kind: ReplicationController", "apiVersion: v1"); err != nil {
				t.Error(err)
			}
			r.run("uninstall", "web", "--wait", "--timeout", "60s")
			r.gone()
		})
	}
}

// hookRan looks for the Pod of a hook that Helm leaves until the next run.
func (r *release) hookRan(name string) {
	r.t.Helper()
	pod, err := clientset(r.t).CoreV1().Pods(r.namespace).Get(r.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	if pod.Status.Phase != corev1.PodSucceeded {
		r.t.Errorf("hook %s is %s", name, pod.Status.Phase)
	}
}

// failedUpgrade: a hook that fails ends the upgrade before anything else changes.
func (r *release) failedUpgrade() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	args := append([]string{"--namespace", r.namespace, "upgrade", "web", "testdata/chart", "--timeout", "60s"}, r.values("replicas=3", "hookCommand=exit 1")...)
	out, err := run(ctx, "", r.helm, args...)
	if err == nil || contains(out, "UPGRADE FAILED", "web-prepare") != nil {
		r.t.Errorf("an upgrade whose hook fails: %v\n%s", err, out)
	}
	r.state(2, "salve")
}

func (r *release) history(want ...string) {
	r.t.Helper()
	var revisions []struct{ Status string }
	out := r.run("history", "web", "-o", "json")
	if err := json.Unmarshal([]byte(out), &revisions); err != nil {
		r.t.Fatalf("%v in %s", err, out)
	}
	var got []string
	for _, revision := range revisions {
		got = append(got, revision.Status)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		r.t.Errorf("history %v, want %v", got, want)
	}
}

// gone waits until what the release had is deleted; hooks are none of its resources.
func (r *release) gone() {
	r.t.Helper()
	c := clientset(r.t).CoreV1()
	eventually(r.t, "the release to be gone", func() error {
		for what, get := range map[string]func() error{
			"rc": func() error {
				_, err := c.ReplicationControllers(r.namespace).Get(r.t.Context(), "web", metav1.GetOptions{})
				return err
			},
			"svc": func() error {
				_, err := c.Services(r.namespace).Get(r.t.Context(), "web", metav1.GetOptions{})
				return err
			},
			"cm": func() error {
				_, err := c.ConfigMaps(r.namespace).Get(r.t.Context(), "web", metav1.GetOptions{})
				return err
			},
		} {
			if err := isGone(get()); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
		pods, err := c.Pods(r.namespace).List(r.t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=web"})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d Pods are left", len(pods.Items))
		}
		return err
	})
}
