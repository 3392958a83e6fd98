package env

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/downward"
)

func local(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

func configMapKey(name, key string, optional *bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local(name), Key: key, Optional: optional}}
}

func secretKey(name, key string, optional *bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local(name), Key: key, Optional: optional}}
}

func fromConfigMap(name, prefix string, optional *bool) corev1.EnvFromSource {
	return corev1.EnvFromSource{Prefix: prefix, ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local(name), Optional: optional}}
}

func fromSecret(name, prefix string, optional *bool) corev1.EnvFromSource {
	return corev1.EnvFromSource{Prefix: prefix, SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local(name), Optional: optional}}
}

func field(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

func limit(container, name string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: container, Resource: name}}
}

func TestVariablesFromElsewhere(t *testing.T) {
	sources := Sources{
		ConfigMaps: map[string]*corev1.ConfigMap{"settings": {Data: map[string]string{"b": "2", "a": "1", "odd name": "x"}}},
		Secrets:    map[string]*corev1.Secret{"keys": {Data: map[string][]byte{"a": []byte("secret"), "token": []byte("$(a)")}}},
	}
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	pod.Spec.Containers = []corev1.Container{{Name: "other", Resources: corev1.ResourceRequirements{
		Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}}}}
	tests := map[string]struct {
		envFrom []corev1.EnvFromSource
		env     []corev1.EnvVar
		args    []string
		want    Environment
		wantErr string
	}{
		"the Pod's fields": {
			env:  []corev1.EnvVar{{Name: "NAME", ValueFrom: field("metadata.name")}, {Name: "IP", ValueFrom: field("status.podIP")}},
			want: Environment{Env: []string{"NAME=web", "IP=10.0.0.2"}},
		},
		"a field that is none": {
			env:     []corev1.EnvVar{{Name: "NAME", ValueFrom: field("status.phase")}},
			wantErr: "unsupported fieldPath: status.phase",
		},
		"limits: the node's, and another container's": {
			env:  []corev1.EnvVar{{Name: "MINE", ValueFrom: limit("", "limits.cpu")}, {Name: "ITS", ValueFrom: limit("other", "limits.cpu")}},
			want: Environment{Env: []string{"MINE=8", "ITS=3"}},
		},
		"limits of a container that is not there": {
			env:     []corev1.EnvVar{{Name: "X", ValueFrom: limit("nobody", "limits.cpu")}},
			wantErr: "container nobody not found",
		},
		"single keys": {
			env:  []corev1.EnvVar{{Name: "A", ValueFrom: configMapKey("settings", "a", nil)}, {Name: "S", ValueFrom: secretKey("keys", "a", nil)}},
			want: Environment{Env: []string{"A=1", "S=secret"}},
		},
		"a value wins over its source": {
			env:  []corev1.EnvVar{{Name: "A", Value: "mine", ValueFrom: configMapKey("none", "a", nil)}},
			want: Environment{Env: []string{"A=mine"}},
		},
		"all keys, by name, whatever they look like": {
			envFrom: []corev1.EnvFromSource{fromConfigMap("settings", "", nil)},
			want:    Environment{Env: []string{"a=1", "b=2", "odd name=x"}},
		},
		"a prefix": {
			envFrom: []corev1.EnvFromSource{fromSecret("keys", "K_", nil)},
			want:    Environment{Env: []string{"K_a=secret", "K_token=$(a)"}},
		},
		"later sources win, and env over all": {
			envFrom: []corev1.EnvFromSource{fromConfigMap("settings", "", nil), fromSecret("keys", "", nil)},
			env:     []corev1.EnvVar{{Name: "b", Value: "own"}},
			want:    Environment{Env: []string{"a=secret", "b=own", "odd name=x", "token=$(a)"}},
		},
		"values from elsewhere are not expanded, but can be referred to": {
			envFrom: []corev1.EnvFromSource{fromSecret("keys", "", nil)},
			env:     []corev1.EnvVar{{Name: "T", ValueFrom: secretKey("keys", "token", nil)}, {Name: "U", Value: "$(T)/$(a)"}},
			args:    []string{"$(token)"},
			want:    Environment{Env: []string{"a=secret", "token=$(a)", "T=$(a)", "U=$(a)/secret"}, Args: []string{"$(a)"}},
		},
		"a ConfigMap that is not there": {
			env:     []corev1.EnvVar{{Name: "A", ValueFrom: configMapKey("none", "a", nil)}},
			wantErr: `configmap "none" not found`,
		},
		"a Secret that is not there": {
			envFrom: []corev1.EnvFromSource{fromSecret("none", "", nil)},
			wantErr: `secret "none" not found`,
		},
		"a key that is not there": {
			env:     []corev1.EnvVar{{Name: "A", ValueFrom: configMapKey("settings", "z", nil)}},
			wantErr: "couldn't find key z in ConfigMap shop/settings",
		},
		"a key of a Secret that is not there": {
			env:     []corev1.EnvVar{{Name: "A", ValueFrom: secretKey("keys", "z", new(false))}},
			wantErr: "couldn't find key z in Secret shop/keys",
		},
		"what is optional may be missing": {
			envFrom: []corev1.EnvFromSource{fromConfigMap("none", "", new(true)), fromSecret("none", "", new(true)), fromConfigMap("settings", "", nil)},
			env: []corev1.EnvVar{
				{Name: "A", ValueFrom: configMapKey("none", "a", new(true))}, {Name: "B", ValueFrom: secretKey("keys", "z", new(true))},
				{Name: "a", ValueFrom: configMapKey("settings", "z", new(true))},
			},
			want: Environment{Env: []string{"a=1", "b=2", "odd name=x"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			container := &corev1.Container{Name: "main", EnvFrom: tt.envFrom, Env: tt.env, Args: tt.args}
			got, err := Compute(Input{Pod: pod, Container: container, Sources: sources,
				Facts: downward.Facts{PodIPs: []string{"10.0.0.2"}}, Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8")}})
			text := ""
			if err != nil {
				text = err.Error()
			}
			if diff := cmp.Diff(tt.wantErr, text); diff != "" {
				t.Fatalf("error (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNeeds(t *testing.T) {
	container := &corev1.Container{
		EnvFrom: []corev1.EnvFromSource{fromConfigMap("b", "", nil), fromSecret("s", "", nil), fromConfigMap("b", "", nil)},
		Env: []corev1.EnvVar{{Name: "A"}, {Name: "B", ValueFrom: configMapKey("a", "k", nil)}, {Name: "C", ValueFrom: secretKey("s", "k", nil)},
			{Name: "D", ValueFrom: secretKey("r", "k", nil)}},
	}
	want := Names{ConfigMaps: []string{"b", "a"}, Secrets: []string{"s", "r"}}
	if diff := cmp.Diff(want, Needs(container)); diff != "" {
		t.Errorf("needs (-want +got):\n%s", diff)
	}
}
