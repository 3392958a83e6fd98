package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/staticpods"
)

// A static Pod gets the defaults that the API server gives to others.
func TestStaticPodsHaveUpstreamsDefaults(t *testing.T) {
	tests := map[string]string{
		"bare": `containers: [{name: a, image: nginx}]`,
		"tags": `containers: [{name: a, image: "nginx:latest"}, {name: b, image: "nginx:1"},
  {name: c, image: "nginx@sha256:f5a9dccaefd5615a0110a34e9e1cf0c10c1f106f1acdf3fef95bf98b018eb675"}, {name: d, image: "r.example:5000/nginx"}]`,
		"resources": `containers: [{name: a, image: i, resources: {limits: {cpu: 100.5m, memory: 1Gi}, requests: {cpu: 50m}}}]
initContainers: [{name: b, image: i, restartPolicy: Always, resources: {limits: {memory: 1Gi}}}]`,
		"the machine's network": `hostNetwork: true
containers: [{name: a, image: i, ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP, hostPort: 53}]}]`,
		"probes and hooks": `containers:
- name: a
  image: i
  livenessProbe: {httpGet: {port: 80}}
  readinessProbe: {grpc: {port: 90}, periodSeconds: 3}
  startupProbe: {exec: {command: [a]}, timeoutSeconds: 9}
  lifecycle: {postStart: {httpGet: {port: 80, scheme: HTTPS}}, preStop: {exec: {command: [b]}}}`,
		"volumes and variables": `containers:
- name: a
  image: i
  env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]
  volumeMounts: [{name: e, mountPath: /e}]
volumes:
- name: e
- name: h
  hostPath: {path: /h}
- name: d
  downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.labels}}]}
- name: p
  projected: {sources: [{downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.labels}}]}}]}`,
		"what is said already": `containers: [{name: a, image: i, imagePullPolicy: Never, terminationMessagePolicy: FallbackToLogsOnError, terminationMessagePath: /m}]
restartPolicy: Never
terminationGracePeriodSeconds: 0
enableServiceLinks: false
dnsPolicy: Default
securityContext: {runAsUser: 7}`,
	}
	for name, spec := range tests {
		t.Run(name, func(t *testing.T) {
			ours := &keelsonv1.Pod{}
			if err := yaml.UnmarshalStrict([]byte(spec), &ours.Spec); err != nil {
				t.Fatal(err)
			}
			theirs := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "defaults"}, Spec: *ours.Spec.DeepCopy()}
			if err := testEnv.Client.Create(t.Context(), theirs, client.DryRunAll); err != nil {
				t.Fatal(err)
			}
			// What plugins of admission add is no default of the type.
			theirs.Spec.Priority, theirs.Spec.PreemptionPolicy, theirs.Spec.Tolerations = nil, nil, nil
			staticpods.SetDefaults(ours)
			if diff := cmp.Diff(theirs.Spec, ours.Spec); diff != "" {
				t.Errorf("spec (-API server +ours):\n%s", diff)
			}
		})
	}
}
