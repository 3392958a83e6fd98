package downward

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func makePod() *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "web", Namespace: "shop", UID: "1-2",
		Labels:      map[string]string{"b": "2", "a": `say "hi"`},
		Annotations: map[string]string{"example.org/Key": "x", "lines": "1\n2", keelsonv1.GenerationBeforeBindingAnnotation: "1", keelsonv1.DeletionGracePeriodAnnotation: "5"},
	}}
	pod.Spec.NodeName, pod.Spec.ServiceAccountName = "node-1", "robot"
	return pod
}

func TestField(t *testing.T) {
	facts := Facts{PodIPs: []string{"10.0.0.2", "fd00::2"}, HostIPs: []string{"192.0.2.1"}}
	tests := map[string]struct{ want, wantErr string }{
		"metadata.name":                           {want: "web"},
		"metadata.namespace":                      {want: "shop"},
		"metadata.uid":                            {want: "1-2"},
		"metadata.labels":                         {want: "a=\"say \\\"hi\\\"\"\nb=\"2\""},
		"metadata.annotations":                    {want: "example.org/Key=\"x\"\nlines=\"1\\n2\""},
		"metadata.labels['b']":                    {want: "2"},
		"metadata.labels['none']":                 {want: ""},
		"metadata.annotations['example.org/Key']": {want: "x"},
		"spec.nodeName":                           {want: "node-1"},
		"spec.host":                               {want: "node-1"},
		"spec.serviceAccountName":                 {want: "robot"},
		"status.hostIP":                           {want: "192.0.2.1"},
		"status.hostIPs":                          {want: "192.0.2.1"},
		"status.podIP":                            {want: "10.0.0.2"},
		"status.podIPs":                           {want: "10.0.0.2,fd00::2"},
		"status.phase":                            {wantErr: "unsupported fieldPath: status.phase"},
		"metadata.finalizers['a']":                {wantErr: `fieldPath "metadata.finalizers['a']" does not support subscript`},
		"metadata.labels['a b']":                  {wantErr: "invalid key subscript in metadata.labels['a b']: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"},
	}
	for path, tt := range tests {
		t.Run(path, func(t *testing.T) {
			got, err := Field(makePod(), path, facts)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if diff := cmp.Diff(tt.wantErr, text); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if err == nil && got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFieldWithoutAddresses(t *testing.T) {
	for _, path := range []string{"status.podIP", "status.podIPs", "status.hostIP"} {
		if got, err := Field(makePod(), path, Facts{}); got != "" || err != nil {
			t.Errorf("%s: got %q, %v, want nothing", path, got, err)
		}
	}
}

func TestResource(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	set := corev1.ResourceRequirements{Requests: list("250m", "64Mi"), Limits: list("1500m", "128Mi")}
	set.Limits["hugepages-2Mi"] = resource.MustParse("4Mi")
	allocatable := list("8", "16Gi")
	allocatable[corev1.ResourceEphemeralStorage] = resource.MustParse("100Gi")
	tests := map[string]struct {
		resource, divisor string
		have              corev1.ResourceRequirements
		pod               *corev1.ResourceRequirements
		want, wantErr     string
	}{
		"whole processors, rounded up":          {resource: "limits.cpu", have: set, want: "2"},
		"thousandths of a processor":            {resource: "requests.cpu", divisor: "1m", have: set, want: "250"},
		"bytes":                                 {resource: "limits.memory", have: set, want: "134217728"},
		"mebibytes":                             {resource: "requests.memory", divisor: "1Mi", have: set, want: "64"},
		"huge pages":                            {resource: "limits.hugepages-2Mi", divisor: "1Mi", have: set, want: "4"},
		"huge pages that are not there":         {resource: "limits.hugepages-2Mi", want: "0"},
		"no limit is what the node can give":    {resource: "limits.memory", divisor: "1Gi", want: "16"},
		"no limit of storage either":            {resource: "limits.ephemeral-storage", divisor: "1Gi", want: "100"},
		"no limit, but one of the whole Pod":    {resource: "limits.cpu", pod: &set, want: "2"},
		"a request that is not there is nought": {resource: "requests.cpu", want: "0"},
		"another resource":                      {resource: "limits.example.org/x", wantErr: "unsupported container resource : limits.example.org/x"},
		"neither limit nor request":             {resource: "cpu", wantErr: "unsupported container resource : cpu"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			selector := &corev1.ResourceFieldSelector{Resource: tt.resource}
			if tt.divisor != "" {
				selector.Divisor = resource.MustParse(tt.divisor)
			}
			pod := makePod()
			pod.Spec.Resources = tt.pod
			got, err := Resource(pod, &corev1.Container{Resources: tt.have}, selector, allocatable)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got != tt.want || text != tt.wantErr {
				t.Errorf("got %q, %q; want %q, %q", got, text, tt.want, tt.wantErr)
			}
		})
	}
}

func TestContainer(t *testing.T) {
	pod := makePod()
	pod.Spec.Containers = []corev1.Container{{Name: "main"}}
	pod.Spec.InitContainers = []corev1.Container{{Name: "first"}}
	for _, name := range []string{"main", "first"} {
		if c, err := Container(pod, name); err != nil || c.Name != name {
			t.Errorf("got %v, %v, want container %s", c, err, name)
		}
	}
	if _, err := Container(pod, "other"); err == nil || err.Error() != "container other not found" {
		t.Errorf("got %v, want: container other not found", err)
	}
}
