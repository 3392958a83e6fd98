package env

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Environment is what a container's process sees, expanded.
type Environment struct {
	// Env is "NAME=value": the Pod's variables in the order of the spec, then those of
	// Services that the Pod does not name itself.
	Env           []string
	Command, Args []string
}

// Input is what a container's environment follows from.
type Input struct {
	Pod       *keelsonv1.Pod
	Container *corev1.Container
	// Services are the variables from Services.
	Services []Variable
	// PodIP and HostIP are known when the sandbox runs.
	PodIP, HostIP string
}

// Compute returns the environment; its error names the variable that has no value.
func Compute(in Input) (Environment, error) {
	services := make(map[string]string, len(in.Services))
	for _, v := range in.Services {
		services[v.Name] = v.Value
	}
	own := make(map[string]string, len(in.Container.Env))
	lookup := func(name string) (string, bool) {
		if value, ok := own[name]; ok {
			return value, true
		}
		value, ok := services[name]
		return value, ok
	}

	var out Environment
	for i := range in.Container.Env {
		v := &in.Container.Env[i]
		value := Expand(v.Value, lookup)
		if v.Value == "" && v.ValueFrom != nil {
			var err error
			if value, err = resolve(in, v); err != nil {
				return Environment{}, err
			}
		}
		own[v.Name] = value
	}
	written := make(map[string]bool, len(own))
	for i := range in.Container.Env {
		if name := in.Container.Env[i].Name; !written[name] {
			written[name] = true
			out.Env = append(out.Env, name+"="+own[name])
		}
	}
	for _, v := range in.Services {
		if _, ok := own[v.Name]; !ok {
			out.Env = append(out.Env, v.Name+"="+v.Value)
		}
	}
	out.Command = expandAll(in.Container.Command, lookup)
	out.Args = expandAll(in.Container.Args, lookup)
	return out, nil
}

func expandAll(texts []string, lookup func(string) (string, bool)) []string {
	var out []string
	for _, text := range texts {
		out = append(out, Expand(text, lookup))
	}
	return out
}

// resolve returns the value of a variable that names a source.
func resolve(in Input, v *corev1.EnvVar) (string, error) {
	if v.ValueFrom.FieldRef == nil {
		return "", fmt.Errorf("env %s: this node agent cannot read the source that valueFrom names; use value or valueFrom.fieldRef", v.Name)
	}
	value, err := fieldValue(in, v.ValueFrom.FieldRef.FieldPath)
	if err != nil {
		return "", fmt.Errorf("env %s: %w", v.Name, err)
	}
	return value, nil
}

func fieldValue(in Input, path string) (string, error) {
	if inner, key, ok := subscript(path); ok {
		switch inner {
		case "metadata.annotations":
			return in.Pod.Annotations[key], nil
		case "metadata.labels":
			return in.Pod.Labels[key], nil
		}
		return "", fmt.Errorf("field %q is not supported", path)
	}
	switch path {
	case "metadata.name":
		return in.Pod.Name, nil
	case "metadata.namespace":
		return in.Pod.Namespace, nil
	case "metadata.uid":
		return string(in.Pod.UID), nil
	case "spec.nodeName":
		return in.Pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return in.Pod.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		return in.HostIP, nil
	case "status.podIP", "status.podIPs":
		return in.PodIP, nil
	}
	return "", fmt.Errorf("field %q is not supported", path)
}

// subscript splits metadata.labels['key'].
func subscript(path string) (inner, key string, ok bool) {
	inner, rest, found := strings.Cut(path, "['")
	if !found || !strings.HasSuffix(rest, "']") {
		return "", "", false
	}
	return inner, strings.TrimSuffix(rest, "']"), true
}
