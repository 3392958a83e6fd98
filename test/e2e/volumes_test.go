package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// volumePod is a Pod with volumes whose container c0 runs command; mounts and volumes are
// lists in YAML's flow style.
func volumePod(name, command, mounts, volumes string) string {
	return fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata:
  name: %s
  labels: {app: %[1]s}
  annotations: {note: "first"}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: c0
    image: %s
    command: [sh, -c, %q]
    resources: {limits: {memory: 64Mi}}
    volumeMounts: %s
  volumes: %s
`, name, cluster.Image(busyboxImage), command, mounts, volumes)
}

const settings = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: red, shape: round}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {password: sesame}
`

func TestVolumesHoldWhatThePodSays(t *testing.T) {
	s := newSpace(t)
	s.apply(settings)
	s.apply(volumePod("reader", `
set -e
echo color=$(cat /config/color) link=$(readlink /config/color)
echo nested=$(cat /items/a/b) mode=$(stat -Lc %a /items/a/b)
echo password=$(cat /secret/password) fs=$(stat -fc %T /secret)
echo labels=$(cat /about/labels) memory=$(cat /about/memory)
echo all=$(cat /all/color)-$(cat /all/password)-$(cat /all/name)
echo optional=$(ls /optional | wc -l)
echo disk=$(stat -c %a /disk) memory=$(stat -fc %T /memory) size=$(stat -fc '%b*%S' /memory)
echo token=$(cut -d. -f1 /token/token | wc -c | awk '{print ($1>10)}')
touch /config/new 2>/dev/null && echo config is writable || true
touch /disk/new /memory/new
echo done
`, `[{name: config, mountPath: /config}, {name: items, mountPath: /items}, {name: secret, mountPath: /secret},
      {name: about, mountPath: /about}, {name: all, mountPath: /all}, {name: optional, mountPath: /optional},
      {name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}, {name: token, mountPath: /token}]`,
		`[{name: config, configMap: {name: settings}},
      {name: items, configMap: {name: settings, items: [{key: shape, path: a/b, mode: 0400}]}},
      {name: secret, secret: {secretName: key}},
      {name: about, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: memory, resourceFieldRef: {containerName: c0, resource: limits.memory, divisor: 1Mi}}]}},
      {name: all, projected: {sources: [{configMap: {name: settings}}, {secret: {name: key}}, {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}},
      {name: optional, configMap: {name: nothing, optional: true}},
      {name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}},
      {name: token, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 600}}]}}]`))
	pod := s.phase("reader", corev1.PodSucceeded)
	want := strings.TrimPrefix(`
color=red link=..data/color
nested=round mode=400
password=sesame fs=tmpfs
labels=app="reader" memory=64
all=red-sesame-reader
optional=0
disk=777 memory=tmpfs size=256*4096
token=1
done
`, "\n")
	if got := logs(t, pod, "c0"); got != want {
		t.Errorf("the Pod says\n%s\nwant\n%s", got, want)
	}
}

func TestMissingObjectHoldsThePodAndComingFreesIt(t *testing.T) {
	s := newSpace(t)
	s.apply(volumePod("waiter", `cat /config/color`, `[{name: config, mountPath: /config}]`, `[{name: config, configMap: {name: settings}}]`))
	s.podWhen("waiter", "waiting for its ConfigMap", func(pod *keelsonv1.Pod) error {
		statuses := pod.Status.ContainerStatuses
		if len(statuses) != 1 || statuses[0].State.Waiting == nil || statuses[0].State.Waiting.Reason != "ContainerCreating" {
			return fmt.Errorf("container statuses %+v", statuses)
		}
		return nil
	})
	s.eventually(eventual, "the event FailedMount", func() error {
		out := s.run("get", "events", "--field-selector", "reason=FailedMount", "-o", "jsonpath={.items[*].message}")
		if want := `MountVolume.SetUp failed for volume "config" : configmap "settings" not found`; !strings.Contains(out, want) {
			return fmt.Errorf("events say %q, want %q", out, want)
		}
		return nil
	})
	s.apply(settings)
	pod := s.phase("waiter", corev1.PodSucceeded)
	if got := logs(t, pod, "c0"); got != "red\n" {
		t.Errorf("the Pod says %q, want red", got)
	}
}

func TestMountedFilesFollowTheirObjects(t *testing.T) {
	s := newSpace(t)
	s.apply(settings)
	s.apply(volumePod("watcher", `
until grep -q blue /config/color && grep -q second /about/note && ! test -e /config/shape && test -e /config/size; do sleep 0.2; done
echo $(cat /part/color) $(ls -a /config | grep -c '^\.\.2')
`, `[{name: config, mountPath: /config}, {name: about, mountPath: /about}, {name: config, mountPath: /part/color, subPath: color}]`,
		`[{name: config, configMap: {name: settings}},
      {name: about, downwardAPI: {items: [{path: note, fieldRef: {fieldPath: "metadata.annotations['note']"}}]}}]`))
	s.phase("watcher", corev1.PodRunning)
	s.run("patch", "configmap", "settings", "--type=merge", "-p", `{"data":{"color":"blue","shape":null,"size":"big"}}`)
	s.run("annotate", "kpo", "watcher", "--overwrite", "note=second")
	pod := s.phase("watcher", corev1.PodSucceeded)
	if got, want := logs(t, pod, "c0"), "red 1\n"; got != want {
		t.Errorf("the Pod says %q, want %q: a file mounted by itself stays, and old folders go", got, want)
	}
}

// TestProgramsInPodsReachTheAPI runs a program that does what in-cluster configuration
// does: it finds the API by variables, and its credentials where every Pod has them.
func TestProgramsInPodsReachTheAPI(t *testing.T) {
	s := newSpace(t)
	ask := func(name, account string) string {
		return fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: Never
  serviceAccountName: %s
  containers:
  - {name: c0, image: %s, args: [api, "/api/v1/namespaces/%s/pods"]}
`, name, account, cluster.Image(testserverImage), s.Name)
	}
	out, err := s.tryApply(ask("early", "robot"))
	if want := `pods "early" is forbidden: error looking up service account ` + s.Name + `/robot: serviceaccount "robot" not found`; err == nil || !strings.Contains(out, want) {
		t.Errorf("kubectl says %q, want %q", out, want)
	}
	s.run("create", "serviceaccount", "robot")
	s.apply(ask("stranger", "robot"))
	pod := s.phase("stranger", corev1.PodFailed)
	want := fmt.Sprintf(`pods is forbidden: User \"system:serviceaccount:%s:robot\" cannot list resource \"pods\" in API group \"\" in the namespace \"%[1]s\"`, s.Name)
	if got := logs(t, pod, "c0"); !strings.Contains(got, want) {
		t.Errorf("the Pod says %q, want %q", got, want)
	}
	s.run("create", "role", "reader", "--verb=list", "--resource=pods")
	s.run("create", "rolebinding", "reader", "--role=reader", "--serviceaccount="+s.Name+":robot")
	s.apply(ask("robot", "robot"))
	pod = s.phase("robot", corev1.PodSucceeded)
	list := &corev1.PodList{}
	if err := json.Unmarshal([]byte(logs(t, pod, "c0")), list); err != nil || list.Kind != "PodList" || list.APIVersion != "v1" || len(list.Items) != 2 {
		t.Errorf("the Pod reads a %s %s of %d, %v; want the two Pods as Kubernetes shows them", list.APIVersion, list.Kind, len(list.Items), err)
	}
}

// TestAgentsReadOnlyWhatTheirPodsName asks as the agent would.
func TestAgentsReadOnlyWhatTheirPodsName(t *testing.T) {
	s := newSpace(t)
	s.apply(settings)
	node := strings.TrimSpace(s.run("get", "kno", "-o", "jsonpath={.items[0].metadata.name}"))
	can := func(verb, object string) bool {
		out, _ := s.try("auth", "can-i", verb, object, "--as=keelson:node:"+node, "--as-group=keelson:nodes")
		return strings.Contains(out, "yes")
	}
	if can("get", "configmap/settings") {
		t.Fatal("the agent may read a ConfigMap that no Pod of its node names")
	}
	s.apply(volumePod("p", "sleep 3600", `[{name: config, mountPath: /config}]`, `[{name: config, configMap: {name: settings}}]`))
	s.phase("p", corev1.PodRunning)
	for object, want := range map[string]bool{
		"configmap/settings": true, "configmap/kube-root-ca.crt": true, "secret/key": false, "configmaps": false, "secrets": false,
	} {
		if got := can("get", object); got != want {
			t.Errorf("get %s: %v, want %v", object, got, want)
		}
	}
	s.run("delete", "kpo", "p")
	s.eventually(eventual+eventual, "the right to be taken back", func() error {
		if can("get", "configmap/settings") {
			return fmt.Errorf("the agent may still read the ConfigMap")
		}
		return nil
	})
}

func TestContainersShareVolumesAndPathsWithinThem(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: shared}
spec:
  restartPolicy: Never
  securityContext: {fsGroup: 2000}
  containers:
  - name: writer
    image: %[1]s
    command: [sh, -c, 'mkdir /data/part; echo hello > /data/part/word; ln -s /etc /data/out; touch /data/ready; until test -e /data/read; do sleep 0.1; done']
    volumeMounts: [{name: data, mountPath: /data}]
  - name: reader
    image: %[1]s
    command: [sh, -c, 'until test -e /data/ready; do sleep 0.1; done; cat /data/part/word; stat -c %%g:%%a /data /mine | tr "\n" " "; id -G; (echo x > /read/only) 2>/dev/null || echo read-only; touch /data/read']
    env: [{name: ME, value: reader}]
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: data, mountPath: /mine, subPathExpr: of/$(ME)}
    - {name: data, mountPath: /read, readOnly: true, subPath: read-only}
  volumes: [{name: data, emptyDir: {}}]
`, cluster.Image(busyboxImage)))
	pod := s.phase("shared", corev1.PodSucceeded)
	if got, want := logs(t, pod, "reader"), "hello\n2000:2777 2000:2777 0 2000\nread-only\n"; got != want {
		t.Errorf("the reader says %q, want %q", got, want)
	}
}

// TestLinksDoNotLeadOutOfVolumes is the old trick: a link in a volume, and a second
// container that mounts what it points to.
func TestLinksDoNotLeadOutOfVolumes(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: thief}
spec:
  restartPolicy: Never
  initContainers:
  - {name: first, image: %[1]s, command: [ln, -s, /etc, /data/out], volumeMounts: [{name: data, mountPath: /data}]}
  containers:
  - {name: second, image: %[1]s, command: [cat, /loot/shadow], volumeMounts: [{name: data, mountPath: /loot, subPath: out}]}
  volumes: [{name: data, emptyDir: {}}]
`, cluster.Image(busyboxImage)))
	s.podWhen("thief", "refused", func(pod *keelsonv1.Pod) error {
		for _, c := range pod.Status.ContainerStatuses {
			if w := c.State.Waiting; w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, `volumeMount "data" of container "second"`) {
				return nil
			}
		}
		return fmt.Errorf("container statuses %+v", pod.Status.ContainerStatuses)
	})
}

func TestHostPathAndItsType(t *testing.T) {
	s := newSpace(t)
	dir := t.TempDir()
	s.apply(volumePod("writer", "echo from the Pod > /host/file", `[{name: host, mountPath: /host}]`,
		fmt.Sprintf(`[{name: host, hostPath: {path: %q, type: DirectoryOrCreate}}]`, dir+"/made")))
	s.phase("writer", corev1.PodSucceeded)
	if text, err := os.ReadFile(dir + "/made/file"); err != nil || string(text) != "from the Pod\n" {
		t.Errorf("the machine has %q, %v", text, err)
	}
	s.apply(volumePod("wrong", "true", `[{name: host, mountPath: /host}]`,
		fmt.Sprintf(`[{name: host, hostPath: {path: %q, type: File}}]`, dir+"/made")))
	s.eventually(eventual, "the event FailedMount", func() error {
		out := s.run("get", "events", "--field-selector", "reason=FailedMount", "-o", "jsonpath={.items[*].message}")
		if want := fmt.Sprintf(`hostPath type check failed: %s/made is not a file, it's a Directory`, dir); !strings.Contains(out, want) {
			return fmt.Errorf("events say %q, want %q", out, want)
		}
		return nil
	})
}

func TestVolumeThatOutgrowsItsLimitEvictsThePod(t *testing.T) {
	s := newSpace(t)
	s.apply(volumePod("grower", "dd if=/dev/zero of=/disk/x bs=1M count=3 2>/dev/null; sleep 3600", `[{name: disk, mountPath: /disk}]`,
		`[{name: disk, emptyDir: {sizeLimit: 1Mi}}]`))
	pod := s.phase("grower", corev1.PodFailed)
	if want := `Usage of EmptyDir volume "disk" exceeds the limit "1Mi". `; pod.Status.Reason != "Evicted" || pod.Status.Message != want {
		t.Errorf("reason %s, message %q, want Evicted, %q", pod.Status.Reason, pod.Status.Message, want)
	}
}

// TestNothingOfVolumesStays looks at the machine after a Pod with mounts of every kind
// has gone, whether its agent was there or was killed meanwhile.
func TestNothingOfVolumesStays(t *testing.T) {
	s := newSpace(t)
	s.apply(settings)
	s.apply(volumePod("p", "sleep 3600", `[{name: secret, mountPath: /secret}, {name: memory, mountPath: /memory, subPath: in}]`,
		`[{name: secret, secret: {secretName: key}}, {name: memory, emptyDir: {medium: Memory}}]`))
	pod := s.phase("p", corev1.PodRunning)
	mounts := func() int {
		table, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(table), "/pods/"+string(pod.UID)+"/")
	}
	if mounts() == 0 {
		t.Fatal("the test sees no mounts of the Pod")
	}
	kill(t, "keelson-node", syscall.SIGKILL)
	s.run("delete", "kpo", "p", "--wait=false")
	s.gone("kpo", "p")
	if left := mounts(); left != 0 {
		t.Errorf("%d mounts are left", left)
	}
}
