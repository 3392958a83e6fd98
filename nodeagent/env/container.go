package env

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
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
	Container *corev1.Container
	// Services are the variables from Services.
	Services []Variable
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
		if v.ValueFrom != nil {
			return Environment{}, fmt.Errorf("env %s: this node agent reads no valueFrom: write the value itself", v.Name)
		}
		own[v.Name] = Expand(v.Value, lookup)
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
