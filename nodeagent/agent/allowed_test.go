package agent

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// There is no admission webhook in these tests: Pods come to the agent as somebody wrote them.

func withHostSysctl(pod *keelsonv1.Pod) *keelsonv1.Pod {
	pod.Spec.HostNetwork = true
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.ipv4.tcp_syncookies", Value: "0"}}}
	return pod
}

func privileged(pod *keelsonv1.Pod) *keelsonv1.Pod {
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	return pod
}

// eventuallyRefused waits until the Pod has failed for reason, and nothing of it is left.
func (m *machine) eventuallyRefused(pod *keelsonv1.Pod, reason string) {
	m.t.Helper()
	m.eventually("Pod "+pod.Name+" fails as "+reason, func(context.Context) bool {
		got := m.get(pod)
		return got.Status.Phase == corev1.PodFailed && got.Status.Reason == reason
	})
	m.eventually("nothing of Pod "+pod.Name+" runs", func(ctx context.Context) bool {
		state, err := m.runtime.Pod(ctx, pod.UID)
		return err == nil && len(state.Sandboxes) == 0
	})
}

func TestPodsThatNoAdmissionSawAreRefused(t *testing.T) {
	m := newMachine(t, "unseen")
	m.join()
	tests := map[string]struct {
		change func(*keelsonv1.Pod)
		want   string
	}{
		"sysctl": {func(p *keelsonv1.Pod) { withHostSysctl(p) }, "SysctlForbidden"},
		"climbing-sysctl": {func(p *keelsonv1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.ipv4.//.//.kernel.core_pattern", Value: "x"}}}
		}, "SysctlForbidden"},
		"volume": {func(p *keelsonv1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "../../x"}} }, "FailedValidation"},
		"users":  {func(p *keelsonv1.Pod) { p.Spec.HostUsers, p.Spec.HostPID = new(false), true }, "FailedValidation"},
		"seccomp": {func(p *keelsonv1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: "None"}}
		}, "FailedValidation"},
	}
	for name, tt := range tests {
		pod := m.makePod("unseen-" + name)
		tt.change(pod)
		m.eventuallyRefused(m.create(pod), tt.want)
	}
	m.nothingLeft()
}

// A status that says that the Pod has started is no way past the node's rules.
func TestPodThatSaysThatItStartedIsRefused(t *testing.T) {
	m := newMachine(t, "said-started")
	pod := m.create(withHostSysctl(m.makePod("said-web")))
	pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, new(metav1.Now())
	if err := m.client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	m.join()
	m.eventuallyRefused(pod, "SysctlForbidden")
}

func TestPodThatChangesIntoWhatItMayNotBeIsEnded(t *testing.T) {
	m := newMachine(t, "changes")
	m.join()
	pod := m.eventuallyShows(m.create(m.makePod("changes-web")), "Running")
	if err := m.client.Update(t.Context(), withHostSysctl(pod)); err != nil {
		t.Fatal(err)
	}
	m.eventuallyRefused(pod, "SysctlForbidden")
}

func TestAgentThatAllowsLessEndsWhatRan(t *testing.T) {
	m := newMachine(t, "allows-less")
	m.options.AllowPrivileged = true
	m.join()
	pod := m.eventuallyShows(m.create(privileged(m.makePod("less-privileged"))), "Running")
	other := m.eventuallyShows(m.create(m.makePod("less-ordinary")), "Running")
	m.stop()
	m.options.AllowPrivileged = false
	m.boot()
	m.eventuallyRefused(pod, "PrivilegedForbidden")
	if now := m.get(other); now.Status.Phase != corev1.PodRunning || now.Status.Summary.Restarts != 0 {
		t.Errorf("the ordinary Pod is %+v", now.Status)
	}
}

// unlawful are manifests that no admission sees, by what an event on the Node says of each;
// fewer than ten, for client-go tells no more of one kind apart.
func unlawful() map[string]string {
	spec := func(text string) string { return strings.Replace(staticManifest, "spec:", "spec:\n  "+text, 1) }
	container := func(text string) string { return staticManifest + "    " + text + "\n" }
	return map[string]string{
		"may not be specified when 'hostNetwork' is true":             spec("hostNetwork: true\n  securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '0'}]}"),
		"ShareProcessNamespace and HostPID cannot both be enabled":    spec("hostPID: true\n  shareProcessNamespace: true"),
		"spec.HostIPC: Forbidden: when `hostUsers` is false":          spec("hostIPC: true\n  hostUsers: false"),
		"`hostUsers` must be false to use `Unmasked`":                 container("securityContext: {procMount: Unmasked}"),
		`seccompProfile.type: Unsupported value: "none"`:              container("securityContext: {seccompProfile: {type: none}}"),
		`ports[0].hostIP: Invalid value: "localhost"`:                 container("ports: [{containerPort: 80, hostPort: 80, hostIP: localhost}]"),
		"must match `containerPort` when `hostNetwork` is true":       spec("hostNetwork: true") + "    ports: [{containerPort: 80, hostPort: 81}]\n",
		"securityContext.runAsUser: Invalid value: -4294967296: must": container("securityContext: {runAsUser: -4294967296, runAsNonRoot: true}"),
	}
}

// eventuallyReports waits for an event on the Node that says what.
func (m *machine) eventuallyReports(what string) {
	m.t.Helper()
	m.eventually("an event on the Node says "+what, func(ctx context.Context) bool {
		var events corev1.EventList
		return m.client.List(ctx, &events, client.InNamespace("default")) == nil &&
			slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
				return e.InvolvedObject.Name == m.name && e.Reason == "FailedValidation" && strings.Contains(e.Message, what)
			})
	})
}

func TestStaticPodsThatMayNotBeAreRefused(t *testing.T) {
	m := newManifests(t, "static-unlawful")
	files := slices.Sorted(maps.Values(unlawful()))
	for i, manifest := range files {
		name := string(rune('a' + i))
		m.write(name+".yaml", strings.Replace(manifest, "name: web", "name: "+name, 1))
	}
	m.join()
	for what := range unlawful() {
		m.eventuallyReports(what)
	}
	if held := m.held(); len(held) != 0 {
		t.Errorf("the runtime holds %+v", held)
	}
}

// What only the node can judge fails on it, and the mirror says so.
func TestStaticPodsThatTheNodeForbidsFail(t *testing.T) {
	m := newManifests(t, "static-forbidden")
	m.options.AllowPrivileged = false
	taken := staticManifest + "    ports: [{containerPort: 80, hostPort: 8080}]\n"
	m.write("a-first.yaml", strings.Replace(taken, "name: web", "name: first", 1))
	m.join()
	first := m.eventuallyMirrors(m.mirror("first"))
	for want, manifest := range map[string]string{
		"PrivilegedForbidden": staticManifest + "    securityContext: {privileged: true}\n",
		"SysctlForbidden":     strings.Replace(staticManifest, "spec:", "spec:\n  securityContext: {sysctls: [{name: kernel.sem, value: '1'}]}", 1),
		"NodePorts":           taken,
	} {
		name := strings.ToLower(want)
		m.write(name+".yaml", strings.Replace(manifest, "name: web", "name: "+name, 1))
		mirror := m.mirror(name)
		m.eventually("the mirror fails as "+want, func(ctx context.Context) bool {
			return m.client.Get(ctx, client.ObjectKeyFromObject(mirror), mirror) == nil &&
				mirror.Status.Phase == corev1.PodFailed && mirror.Status.Reason == want
		})
	}
	if held := m.held(); len(held) != 1 || held[0].Name != first.Name {
		t.Errorf("the runtime holds %+v, want the first Pod only", held)
	}
}

func TestManifestOfAURLThatMayNotBeIsRefused(t *testing.T) {
	const what = "may not be specified when 'hostNetwork' is true"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, unlawful()[what])
	}))
	t.Cleanup(server.Close)
	m := newMachine(t, "url-unlawful")
	m.options.ManifestURL = server.URL
	m.join()
	m.eventuallyReports(what)
	m.nothingLeft()
}
