package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// columns is what kubectl printed, with one blank between two words.
func columns(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(lines, "\n")
}

// showsLines looks for whole lines in what kubectl prints, whatever its columns' widths.
func (s *space) showsLines(args []string, lines ...string) {
	s.t.Helper()
	out := "\n" + columns(s.run(args...)) + "\n"
	for _, line := range lines {
		if !strings.Contains(out, "\n"+line+"\n") {
			s.t.Errorf("kubectl %s: no line %q:\n%s", strings.Join(args, " "), line, out)
		}
	}
}

// createRefused creates what a manifest says, which must fail with each part.
func (s *space) createRefused(manifest string, parts ...string) {
	s.t.Helper()
	out, err := output(s.command("create", "-f", "-"), manifest)
	if err == nil {
		s.t.Errorf("created: %s\n%s", out, manifest)
		return
	}
	if err := wantIn(out, parts...); err != nil {
		s.t.Error(err)
	}
}

// tenantLimits gives a Pod, and each container, bounds and defaults.
const tenantLimits = `
apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec:
  limits:
  - type: Pod
    max: {cpu: 4, memory: 2Gi}
    min: {cpu: 250m, memory: 8Mi}
    maxLimitRequestRatio: {cpu: 4, memory: 4}
  - type: Container
    default: {cpu: 500m, memory: 512Mi}
    defaultRequest: {cpu: 250m, memory: 256Mi}
    max: {cpu: 2, memory: 1Gi}
    min: {cpu: 250m, memory: 8Mi}
    maxLimitRequestRatio: {cpu: 2, memory: 2}
`

// podAsking is a Pod that sleeps, with one container for each resources.
func podAsking(name string, resources ...string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n", name)
	for i, r := range resources {
		fmt.Fprintf(&text, "  - {name: container%d, image: %s, command: [sleep, '3600'], resources: {%s}}\n", i+1, cluster.Image(busyboxImage), r)
	}
	return text.String()
}

// TestPlainLimits: what a LimitRange gives and refuses, as its user sees it.
func TestPlainLimits(t *testing.T) {
	s := newPlainSpace(t)
	s.apply(podAsking("before", ""))
	if out, err := output(s.command("create", "-f", "-"), tenantLimits); err != nil || strings.TrimSpace(out) != "limitrange/limits created" {
		t.Fatalf("creating the LimitRange: %v\n%s", err, out)
	}
	s.showsLines([]string{"describe", "limitranges", "limits"}, "Name: limits", "Namespace: "+s.Name,
		"Type Resource Min Max Default Request Default Limit Max Limit/Request Ratio",
		"Pod cpu 250m 4 - - 4", "Pod memory 8Mi 2Gi - - 4", "Container cpu 250m 2 250m 500m 2", "Container memory 8Mi 1Gi 256Mi 512Mi 2")

	// The manager sees the LimitRange a moment after it is stored.
	s.eventually(soon, "the LimitRange is applied", func() error {
		out, err := output(s.command("create", "--dry-run=server", "-o", "jsonpath={.spec.containers[0].resources.limits.cpu}", "-f", "-"), podAsking("nginx", ""))
		if err != nil || out != "500m" {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	s.wantField("pod/before", ".spec.containers[0].resources", "{}")
	s.apply(podAsking("nginx", ""))
	s.wantField("pod/nginx", ".spec.containers[0].resources.requests", `{"cpu":"250m","memory":"256Mi"}`)
	s.wantField("pod/nginx", ".spec.containers[0].resources.limits", `{"cpu":"500m","memory":"512Mi"}`)
	s.run("wait", "--for=condition=Ready", "pod/nginx", "--timeout=60s")

	t.Run("all that is wrong is said at once", func(t *testing.T) {
		s := s.of(t)
		s.createRefused(podAsking("test", "requests: {cpu: 999m}, limits: {cpu: 2}",
			"requests: {memory: 512Mi}, limits: {memory: 1Gi}", "requests: {memory: 8Ki}, limits: {memory: 1Gi}"),
			`Error from server (Forbidden): error when creating "STDIN": pods "test" is forbidden: [`,
			"maximum memory usage per Pod is 2Gi, but limit is 2560Mi, ",
			"cpu max limit to request ratio per Container is 2, but provided ratio is 2.002002, ",
			"minimum memory usage per Container is 8Mi, but request is 8Ki, ",
			"memory max limit to request ratio per Container is 2, but provided ratio is 131072.000000]")
		s.refused([]string{"get", "pod", "test"}, `pods "test" not found`)
	})
	t.Run("each bound by itself", func(t *testing.T) {
		s := s.of(t)
		for resources, want := range map[string]string{
			"requests: {cpu: 200m}":                           `pods "test" is forbidden: [minimum cpu usage per Pod is 250m, but request is 200m`,
			"requests: {cpu: 1500m}, limits: {cpu: 2500m}":    `pods "test" is forbidden: maximum cpu usage per Container is 2, but limit is 2500m`,
			"requests: {memory: 1Gi}, limits: {memory: 2Gi}":  `pods "test" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi`,
			"requests: {cpu: 250m}, limits: {cpu: 1}":         `pods "test" is forbidden: cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000`,
			"requests: {memory: 10Mi}, limits: {memory: 1Gi}": `memory max limit to request ratio per Pod is 4, but provided ratio is 102.400000`,
		} {
			s.createRefused(podAsking("test", resources), want)
		}
		one := "requests: {cpu: 1}, limits: {cpu: 2}"
		s.createRefused(podAsking("test", one, one, one), `pods "test" is forbidden: maximum cpu usage per Pod is 4, but limit is 6`)
	})
	t.Run("what a LimitRange may say", func(t *testing.T) {
		s := s.of(t)
		item := func(item string) string {
			return "apiVersion: v1\nkind: LimitRange\nmetadata: {name: other}\nspec: {limits: [" + item + "]}\n"
		}
		for bad, want := range map[string]string{
			"{type: Container, min: {cpu: 2}, max: {cpu: 1}}":                "min value 2 is greater than max value 1",
			"{type: Container, min: {cpu: 2}, defaultRequest: {cpu: 1}}":     "min value 2 is greater than default request value 1",
			"{type: Container, default: {cpu: 1}, defaultRequest: {cpu: 2}}": "default request value 2 is greater than default limit value 1",
			"{type: Container, default: {cpu: 2}, max: {cpu: 1}}":            "default value 2 is greater than max value 1",
			"{type: Pod, default: {cpu: 2}}":                                 "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
			"{type: Pod, defaultRequest: {cpu: 2}}":                          "spec.limits[0].defaultRequest: Forbidden: may not be specified when `type` is 'Pod'",
		} {
			s.createRefused(item(bad), `The LimitRange "other" is invalid`, want)
		}
		s.apply(item("{type: Container, max: {cpu: 2, memory: 1Gi}, min: {memory: 8Mi}, default: {memory: 512Mi}, defaultRequest: {memory: 256Mi}}"))
		s.wantField("limits/other", ".spec.limits[0].default", `{"cpu":"2","memory":"512Mi"}`)
		s.wantField("limits/other", ".spec.limits[0].defaultRequest", `{"cpu":"2","memory":"256Mi"}`)
		s.run("delete", "limits", "other")
		s.apply(item("{type: Container, min: {cpu: 100m}}"))
		s.wantField("limits/other", ".spec.limits[0].defaultRequest", `{"cpu":"100m"}`)
	})
}

// tenantQuota is what one tenant may have.
const tenantQuota = `
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota}
spec:
  hard: {cpu: 20, memory: 50Gi, persistentvolumeclaims: 10, pods: 10, replicationcontrollers: 20, resourcequotas: 1, secrets: 10, services: 5}
`

// counted waits until a quota's use is what a test expects.
func (s *space) counted(quota string, used map[string]string) {
	s.t.Helper()
	s.eventually(soon, "the quota's use", func() error {
		var q corev1.ResourceQuota
		if err := s.get(&q, "resourcequota", quota); err != nil {
			return err
		}
		for name, want := range used {
			if got, has := q.Status.Used[corev1.ResourceName(name)]; !has || got.String() != want {
				return fmt.Errorf("%s is %s, want %s", name, got.String(), want)
			}
		}
		return nil
	})
}

// quotaHolds waits until the API server asks about the quotas of the namespace.
func (s *space) quotaHolds() {
	s.t.Helper()
	s.eventually(soon, "the quota is enforced", func() error {
		if out, err := output(s.command("create", "--dry-run=server", "-f", "-"), podAsking("probe", "requests: {cpu: 1M, memory: 1Mi}")); err == nil {
			return fmt.Errorf("a Pod for a thousand machines: %s", out)
		}
		return nil
	})
}

// TestPlainQuotas: what a tenant may have in all, as its user sees it.
func TestPlainQuotas(t *testing.T) {
	s := newPlainSpace(t)
	s.run("create", "secret", "generic", "early", "--from-literal=a=b")
	s.run("create", "service", "clusterip", "early", "--tcp=80")
	if out, err := output(s.command("create", "-f", "-"), tenantQuota); err != nil || strings.TrimSpace(out) != "resourcequota/quota created" {
		t.Fatalf("creating the quota: %v\n%s", err, out)
	}
	s.counted("quota", map[string]string{"cpu": "0", "memory": "0", "persistentvolumeclaims": "0", "pods": "0",
		"replicationcontrollers": "0", "resourcequotas": "1", "secrets": "1", "services": "1"})
	s.showsLines([]string{"describe", "quota", "quota"}, "Name: quota", "Namespace: "+s.Name, "Resource Used Hard", strings.Join([]string{
		"cpu 0 20", "memory 0 50Gi", "persistentvolumeclaims 0 10", "pods 0 10", "replicationcontrollers 0 20", "resourcequotas 1 1", "secrets 1 10", "services 1 5"}, "\n"))
	s.quotaHolds()

	t.Run("a Pod must say what it requests, and fit", func(t *testing.T) {
		s := s.of(t)
		const forbidden = `Error from server (Forbidden): error when creating "STDIN": pods "nginx" is forbidden: `
		s.createRefused(podAsking("nginx", ""), forbidden+"failed quota: quota: must specify cpu for: container1; memory for: container1")
		s.createRefused(podAsking("nginx", "requests: {cpu: 1, memory: 60Gi}"), forbidden+"exceeded quota: quota, requested: memory=60Gi, used: memory=0, limited: memory=50Gi")
		s.refused([]string{"get", "pod", "nginx"}, "not found")
		s.apply(podAsking("nginx", "requests: {cpu: 250m, memory: 128Mi}, limits: {cpu: 500m, memory: 512Mi}"))
		s.counted("quota", map[string]string{"cpu": "250m", "memory": "128Mi", "pods": "1"})
		s.showsLines([]string{"describe", "quota", "quota"}, "cpu 250m 20", "memory 128Mi 50Gi", "pods 1 10")
	})
	t.Run("a controller tells in whose way a quota is", func(t *testing.T) {
		s := s.of(t)
		s.apply(strings.Replace(plain(controller("greedy", 1)), "- {name: main,", "- {resources: {requests: {cpu: 1, memory: 60Gi}}, name: main,", 1))
		const said = `is forbidden: exceeded quota: quota, requested: memory=60Gi, used: memory=128Mi, limited: memory=50Gi`
		s.eventually(soon, "the event", func() error {
			return matches(s.run("describe", "rc", "greedy"), `Warning +FailedCreate .*Error creating: pods "greedy-\w+" `+said)
		})
		s.want([]string{"get", "rc", "greedy", "-o", "jsonpath={.status.conditions[?(@.type=='ReplicaFailure')].message}"}, said)
		s.run("delete", "rc", "greedy")
	})
	t.Run("objects are counted", func(t *testing.T) {
		s := s.of(t)
		s.apply(plain(controller("counted", 0)))
		s.run("create", "secret", "generic", "late", "--from-literal=a=b")
		for i := range 4 {
			s.run("create", "service", "clusterip", fmt.Sprintf("late%d", i), "--tcp=80")
		}
		s.counted("quota", map[string]string{"replicationcontrollers": "1", "secrets": "2", "services": "5"})
		s.refused([]string{"create", "service", "clusterip", "surplus", "--tcp=80"},
			`services "surplus" is forbidden: exceeded quota: quota, requested: services=1, used: services=5, limited: services=5`)
		s.refused([]string{"create", "quota", "surplus", "--hard=pods=1"},
			`resourcequotas "surplus" is forbidden: exceeded quota: quota, requested: resourcequotas=1, used: resourcequotas=1, limited: resourcequotas=1`)
		s.run("delete", "service", "late0")
		s.counted("quota", map[string]string{"services": "4"})
		s.run("create", "service", "clusterip", "late0", "--tcp=80")
	})
	t.Run("of several quotas all apply, in their namespace", func(t *testing.T) {
		two := tenant(t, "two")
		two.run("create", "quota", "wide", "--hard=pods=10,cpu=5")
		two.run("create", "quota", "narrow", "--hard=pods=1")
		two.counted("wide", map[string]string{"pods": "0"})
		two.counted("narrow", map[string]string{"pods": "0"})
		two.quotaHolds()
		two.apply(podAsking("one", "requests: {cpu: 1}"))
		two.createRefused(podAsking("two", "requests: {cpu: 1}"), `pods "two" is forbidden: exceeded quota: narrow, requested: pods=1, used: pods=1, limited: pods=1`)
		two.counted("wide", map[string]string{"pods": "1", "cpu": "1"})
		// The other tenant's quota has nothing of it, and the default is none.
		s.of(t).counted("quota", map[string]string{"pods": "1"})
		free := tenant(t, "free")
		free.apply(podAsking("two", ""))
	})
}

// tenant is one more Namespace, by that name.
func tenant(t *testing.T, name string) *space {
	t.Helper()
	s := &space{t: t, Name: "e2e-tenant-" + name, plain: true}
	if out, err := kubectl(t.Context(), "", "create", "namespace", s.Name); err != nil {
		t.Fatalf("create namespace: %v\n%s", err, out)
	}
	t.Cleanup(func() { s.cleanup("delete", "namespace", s.Name) })
	return s
}

// TestPlainTenants: a Namespace of each tenant, and what its neighbour sees.
func TestPlainTenants(t *testing.T) {
	s := newPlainSpace(t)
	name := s.Name + "-development"
	out, err := output(s.command("create", "-f", "-"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+name+", labels: {name: development}}\n")
	if err != nil || strings.TrimSpace(out) != "namespace/"+name+" created" {
		t.Fatalf("creating a Namespace: %v\n%s", err, out)
	}
	t.Cleanup(func() { s.cleanup("delete", "namespace", name) })
	other := &space{t: t, Name: name, plain: true}
	s.wantField("namespace/"+name, ".metadata.labels.name", "development")
	s.showsLines([]string{"describe", "namespace", name}, "Name: "+name, "Status: Active", "No resource quota.", "No LimitRange resource.")
	other.run("create", "quota", "quota", "--hard=services=5")
	other.apply(tenantLimits)
	other.counted("quota", map[string]string{"services": "0"})
	s.showsLines([]string{"describe", "namespace", name}, "Resource Quotas", "services 0 5", "Resource Limits", "Container cpu 250m 2 250m 500m 2")

	t.Log("One name in two Namespaces; who may look into one may not look into the other")
	s.apply(plain(controller("web", 0)))
	other.apply(plain(controller("web", 0)))
	s.run("create", "serviceaccount", "tenant")
	s.run("create", "role", "tenant", "--verb=get,list", "--resource=replicationcontrollers")
	s.run("create", "rolebinding", "tenant", "--role=tenant", "--serviceaccount="+s.Name+":tenant")
	as := "--as=system:serviceaccount:" + s.Name + ":tenant"
	s.want([]string{"get", "rc", as, "-o", "name"}, "replicationcontroller/web\n")
	other.refused([]string{"get", "rc", as}, `User "system:serviceaccount:`+s.Name+`:tenant" cannot list resource "replicationcontrollers" in API group "" in the namespace "`+name+`"`)
	s.refused([]string{"get", "rc", as, "--all-namespaces"}, "at the cluster scope")
	other.run("delete", "rc", "web")
	s.run("get", "rc", "web")

	t.Log("Whoever names no Namespace is in default")
	everywhere, err := output(command(t.Context(), cluster.PlainKubeconfig(), "get", "service", "kubernetes", "-o", "jsonpath={.metadata.namespace}"), "")
	if err != nil || everywhere != "default" {
		t.Errorf("the Namespace is %q, %v", everywhere, err)
	}
}

// TestPlainServiceAccounts: accounts and what Pods get from them.
func TestPlainServiceAccounts(t *testing.T) {
	s := newPlainSpace(t)
	s.eventually(soon, "the account default", func() error {
		_, err := s.try("get", "serviceaccount", "default")
		return err
	})
	s.showsLines([]string{"describe", "serviceaccount", "default"}, "Name: default", "Namespace: "+s.Name, "Labels: <none>", "Image pull secrets: <none>")
	s.want([]string{"create", "serviceaccount", "my-serviceaccount"}, "serviceaccount/my-serviceaccount created")
	s.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: myregistrykey}\ntype: kubernetes.io/dockercfg\nstringData: {.dockercfg: '{\"reg.example\":{\"username\":\"u\",\"password\":\"p\"}}'}\n")
	if err := matches(s.run("get", "secrets"), `(?m)^NAME +TYPE +DATA +AGE\nmyregistrykey +kubernetes.io/dockercfg +1 +\w+$`); err != nil {
		t.Error(err)
	}
	asking := func(name, more string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  restartPolicy: Never\n%s  containers:\n  - {name: c0, image: %s, args: [api, /api]}\n", name, more, cluster.Image(testserverImage))
	}
	s.apply(asking("early", ""))
	s.want([]string{"patch", "serviceaccounts", "default", "-p", `{"imagePullSecrets":[{"name":"myregistrykey"}]}`}, "serviceaccount/default patched")
	s.showsLines([]string{"describe", "serviceaccount", "default"}, "Image pull secrets: myregistrykey")
	s.eventually(soon, "the account's secrets come with new Pods", func() error {
		out, err := output(s.command("create", "--dry-run=server", "-o", "jsonpath={.spec.imagePullSecrets[*].name}", "-f", "-"), asking("late", ""))
		if err != nil || out != "myregistrykey" {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	s.apply(asking("late", ""))
	s.apply(asking("own", "  serviceAccountName: my-serviceaccount\n"))
	s.apply(asking("explicit", "  imagePullSecrets: [{name: other}]\n"))
	s.wantField("pod/early", ".spec.imagePullSecrets", "")
	s.wantField("pod/late", ".spec.imagePullSecrets[*].name", "myregistrykey")
	s.wantField("pod/explicit", ".spec.imagePullSecrets[*].name", "other")
	s.wantField("pod/own", ".spec.imagePullSecrets", "")
	s.wantField("pod/late", ".spec.serviceAccountName", "default")
	s.wantField("pod/own", ".spec.serviceAccountName", "my-serviceaccount")
	s.wantField("pod/own", ".spec.containers[0].volumeMounts[*].mountPath", "/var/run/secrets/kubernetes.io/serviceaccount")

	// What a program with an account's token and certificates reads.
	for _, name := range []string{"late", "own"} {
		s.run("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/"+name, "--timeout=60s")
		var versions struct {
			Kind     string
			Versions []string
		}
		if err := json.Unmarshal([]byte(s.run("logs", name)), &versions); err != nil || versions.Kind != "APIVersions" || strings.Join(versions.Versions, " ") != "v1" {
			t.Errorf("%s reads %+v, %v", name, versions, err)
		}
	}
}

// TestPlainPodTemplates: templates by themselves, and labels as columns.
func TestPlainPodTemplates(t *testing.T) {
	s := newPlainSpace(t)
	out, err := output(s.command("create", "-f", "-"), `
apiVersion: v1
kind: PodTemplate
metadata: {name: nginx}
template:
  metadata: {labels: {name: nginx}}
  spec: {containers: [{name: nginx, image: "nginx:1", ports: [{containerPort: 80}]}]}
`)
	if err != nil || strings.TrimSpace(out) != "podtemplate/nginx created" {
		t.Fatalf("creating a PodTemplate: %v\n%s", err, out)
	}
	s.wantField("podtemplate/nginx", ".template.spec.containers[0].ports[0].containerPort", "80")
	for _, args := range [][]string{{"get", "podTemplate", "nginx"}, {"get", "podtemplates"}} {
		s.showsLines(args, "NAME CONTAINERS IMAGES POD LABELS", "nginx nginx nginx:1 name=nginx")
	}

	s.apply(plain(controller("web", 0)))
	s.run("label", "rc", "web", "app=web", "deployment.kubernetes.io/podTemplateHash=42")
	for _, flags := range [][]string{{"--label-columns", "app"}, {"--label-columns=app"}, {"-L", "app"}} {
		s.showsLines(append([]string{"get", "rc", "--no-headers=false"}, flags...), "NAME DESIRED CURRENT READY AGE APP")
	}
	if err := matches(s.run("get", "rc", "--label-columns=app,deployment.kubernetes.io/podTemplateHash"), `(?m)^NAME .* APP +PODTEMPLATEHASH\nweb .* web +42$`); err != nil {
		t.Error(err)
	}
}
